#!/bin/sh
# Stands for Slurm's commands, by the name that it is called with, where every job has ended: takes what the real ones
# take, and answers in their form from the files beside it.
#
#   jobs          number of the last job that was submitted
#   accounting    lines of sacct; where there is no such file, there is no accounting
#   controller    lines of scontrol, for the job in JobId=
set -eu
here=$(dirname "$0")

case $(basename "$0") in
sbatch)
    job=$(($(cat "$here/jobs") + 1))
    echo "$job" >"$here/jobs"
    echo "$job"
    ;;
squeue) ;;
sacct)
    [ -f "$here/accounting" ] || {
        echo 'Slurm accounting storage is disabled' >&2
        exit 1
    }
    ids=
    for argument in "$@"; do
        case $argument in
        --allocations | --noheader | --parsable2 | --format=JobID,State,ExitCode,NodeList) ;;
        --jobs=*) ids=${argument#--jobs=} ;;
        *)
            echo "sacct: unrecognized option '$argument'" >&2
            exit 1
            ;;
        esac
    done
    while IFS= read -r line; do
        case ",$ids," in
        *",${line%%[_|]*},"*) echo "$line" ;;
        esac
    done <"$here/accounting"
    ;;
scontrol)
    [ "$1 $2 $3" = '--oneliner show job' ]
    grep "^JobId=$4 \| ArrayJobId=$4 " "$here/controller" || {
        echo 'slurm_load_jobs error: Invalid job id specified' >&2
        exit 1
    }
    ;;
esac
