#!/bin/sh
# Starts a Slurm cluster of its own in a scratch folder, without systemd and without touching /etc: munged, slurmctld,
# and one slurmd for each node, all on this machine. Needs Debian's packages slurm-wlm and munge.
#
#   start.sh FOLDER [NODES]    starts it; then SLURM_CONF=FOLDER/slurm.conf makes sbatch and squeue speak to it
#   start.sh FOLDER stop       ends its processes
#
# Exit code 77 says that Slurm is not installed or can't be started here, and the last line why.
set -eu
folder=$1
PATH=$PATH:/usr/sbin:/sbin
export PATH

# Ends the processes, and waits until they have ended: the folder may be removed then.
stop() {
    pids=$(cat "$folder"/*.pid 2>/dev/null || true)
    for pid in $pids; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in $pids; do
        waited=0
        while kill -0 "$pid" 2>/dev/null && [ "$waited" -lt 50 ]; do
            waited=$((waited + 1))
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
    done
}

if [ "${2:-}" = stop ]; then
    stop
    exit 0
fi
nodes=${2:-2}
for program in munged slurmctld slurmd sbatch squeue scontrol; do
    command -v "$program" >/dev/null || {
        echo "skipped: $program is not installed (apt-get install slurm-wlm munge)"
        exit 77
    }
done

mkdir -p "$folder/state" "$folder/munge"
chmod 700 "$folder/munge"
folder=$(cd "$folder" && pwd)
user=$(id -un)
host=$(hostname -s)
# Ports that are no other cluster's: from the number of this process.
port=$((20000 + $$ % 20000))

(umask 077 && dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 2>/dev/null)
munged --key-file="$folder/munge/key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --force >/dev/null 2>&1 || {
    echo "skipped: munged does not start: $(tail -n 1 "$folder/munge/log" 2>/dev/null)"
    exit 77
}

cat >"$folder/slurm.conf" <<CONF
ClusterName=scratch
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# A requeued job waits as long as credentials live: short here.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=100000
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=3600
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
CONF
number=1
while [ "$number" -le "$nodes" ]; do
    echo "NodeName=node$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + number)) CPUs=2" \
        "RealMemory=100 Feature=node$number" >>"$folder/slurm.conf"
    mkdir -p "$folder/spool.node$number"
    number=$((number + 1))
done
echo "PartitionName=cpu Nodes=ALL Default=YES State=UP MaxTime=INFINITE OverSubscribe=NO" >>"$folder/slurm.conf"

SLURM_CONF=$folder/slurm.conf
export SLURM_CONF
slurmctld -c -f "$SLURM_CONF" >"$folder/slurmctld.out" 2>&1 || {
    echo "skipped: slurmctld does not start: $(tail -n 1 "$folder/slurmctld.out")"
    stop
    exit 77
}
number=1
while [ "$number" -le "$nodes" ]; do
    slurmd -c -f "$SLURM_CONF" -N "node$number" >"$folder/slurmd.node$number.out" 2>&1 || {
        echo "skipped: slurmd does not start: $(tail -n 1 "$folder/slurmd.node$number.out")"
        stop
        exit 77
    }
    number=$((number + 1))
done
tries=0
while [ "$(sinfo -h -t idle -N -o %n 2>/dev/null | wc -l)" -lt "$nodes" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ]; then
        echo "skipped: the nodes do not come up: $(sinfo -h -N -o '%n %T %E' 2>&1 | tr '\n' ';')"
        stop
        exit 77
    fi
    sleep 0.1
done
echo "$nodes nodes are up; export SLURM_CONF=$SLURM_CONF"
