# One task of a run: $1 is the step, $2 the number of the first shard of the array.
step=$1
case $step in
statistics | candidates | report | sensitivity | performance)
    shard=$(($2 + ${SLURM_ARRAY_TASK_ID:-0}))
    folder=$run/shards/$step/$(printf %02d $((shard / 100)))
    out=$folder/$(printf %04d "$shard").out
    mkdir -p "$folder"
    threads=${SLURM_CPUS_PER_TASK:-1}
    # It has the node to itself.
    [ "$step" = performance ] && threads=${SLURM_CPUS_ON_NODE:-$threads}
    set -- shard run "$run" "$step" "$shard" --threads "$threads"
    ;;
*)
    case $step in
    model) merge=statistics ;;
    choice) merge=candidates ;;
    *)
        # Where the model could not be made, the last job says why.
        merge=report
        [ -f "$run/shards/model.json" ] || merge=candidates
        [ -f "$run/shards/model.json" ] || [ -f "$run/shards/candidates.json" ] || merge=statistics
        ;;
    esac
    out=$run/shards/slurm/$step.out
    set -- shard merge "$run" "$merge"
    ;;
esac
exec >>"$out" 2>&1

late= over=
"$calib8" "$@" &
child=$!
# The time limit is near: what is done is kept, and a requeue goes on with it.
trap 'late=yes; kill -USR1 $child' USR1
# Slurm tells the child as well, and to be told twice means to end at once.
trap 'over=yes' TERM
while :; do
    wait $child
    code=$?
    # A trap ends the waiting, not the child.
    kill -0 $child 2>/dev/null || break
done

again=
restarts=${SLURM_RESTART_COUNT:-0}
case $step in
statistics | report) [ "$code" = 130 ] && again=$late ;;
# These can't tell whether they have come any further.
*) [ "$code" = 130 ] && [ "$restarts" -lt 3 ] && again=$late ;;
esac
# Killed, as by the kernel where memory ran out: worth another try, not many. After SIGTERM somebody wants the end.
[ "$code" -gt 130 ] && [ "$code" != 143 ] && [ -z "$over" ] && [ "$restarts" -lt 3 ] && again=yes
if [ -n "$again" ]; then
    echo "requeued: exit code $code after $restarts restarts"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
