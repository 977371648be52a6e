#!/bin/bash
# raygen tune gan --cluster slurm --storage /shared/runs       submits this file and follows the job
# sbatch cluster/slurm.sh --space search_spaces/gan.yaml --storage /shared/runs      is the same by hand
#
# A job of Slurm: Ray's head and the search on its first node, a Ray worker on each of the others.
# What follows it are the options of `raygen tune`. Adjust the lines below to your cluster; those with
# ## do not count until one # is removed. raygen's environment and the folder in which you submit
# must be seen by all nodes, as must the storage: a shared folder, or s3://BUCKET/….
#SBATCH --job-name=raygen
##SBATCH --partition=REPLACE-ME
##SBATCH --account=REPLACE-ME
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
# So long before the time limit, the search is told to save and to end; then this job requeues itself.
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
# A lost node costs the search its trials since their last checkpoint, and not the job.
#SBATCH --no-kill
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append

# Not `ray symmetric-run`, nor `ray stop`: they end every Ray of this user on the node, and the former
# refuses to start beside another. Each job here has ports that are free and a folder of its own.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')

# scancel sends SIGTERM to every process of the job at once, also to the Ray that trials save through:
# with the signal blocked it lives on, until the search has ended or Slurm's KillWait is over.
# A session of its own holds all that Ray starts, so that it can be ended without any other's.
SHIELD="import os, signal, sys
os.setsid()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.execvp(sys.argv[1], sys.argv[1:])"

await() { # a signal ends `wait` early
    while kill -0 "$1" 2>/dev/null; do wait "$1"; done
    wait "$1"
}

start_ray() { # with the cores and GPUs that Slurm gives to this job
    # Short, since Ray's sockets are in it; mktemp lets only the user in.
    RAY_TMPDIR=$(mktemp -d "/tmp/rg-$SLURM_JOB_ID-XXXX") || return
    export RAY_TMPDIR TMPDIR=$RAY_TMPDIR
    ulimit -Sn "$(ulimit -Hn)"
    python -c "$SHIELD" ray start "$@" --num-cpus="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}" \
        --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --dashboard-agent-listen-port=0 \
        --disable-usage-stats >"$TMPDIR/start.log" 2>&1 &
    session=$!
    await "$session" || { cat "$TMPDIR/start.log" >&2; return 1; }
}

stop_ray() {
    for _ in 1 2 3 4 5; do
        pkill -KILL -s "$session" || break
        sleep 0.2
    done
    rm -rf "$RAY_TMPDIR"
}

work() { # on every node but the first, for as long as the head answers
    trap '' TERM # Slurm's, when the job ends: the folder is yet to be removed
    if start_ray --address="$RAY_ADDRESS"; then
        echo joined
        while (exec 3<>"/dev/tcp/${RAY_ADDRESS%:*}/${RAY_ADDRESS##*:}") 2>/dev/null; do sleep 2; done
    fi
    stop_ray
}

notice= search=
hear() { # the second signal would make the search quit at once
    [ -n "$notice" ] || [ -z "$search" ] || kill -USR1 "$search"
    notice=$1
}
trap 'hear USR1' USR1
trap 'hear TERM' TERM

client_port=$(python -c 'import socket; print(socket.create_server(("", 0)).getsockname()[1])')
start_ray --head --port=0 --ray-client-server-port="$client_port" \
    --dashboard-host=127.0.0.1 --dashboard-port=0 || { stop_ray; exit 4; }
RAY_ADDRESS=$(cat "$RAY_TMPDIR/ray/ray_current_cluster")
export RAY_ADDRESS

others=$((SLURM_NNODES - 1)) joined=0
if [ "$others" -gt 0 ]; then
    mkfifo "$TMPDIR/joined"
    srun --nodes="$others" --ntasks="$others" --exclude="$SLURMD_NODENAME" --no-kill \
        --kill-on-bad-exit=0 --wait=0 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
        bash -c "SHIELD='$SHIELD'; $(declare -f await start_ray stop_ray work); work" >"$TMPDIR/joined" &
    step=$!
    exec 3<"$TMPDIR/joined"
    while [ "$joined" -lt "$others" ] && read -r -t 180 -u 3; do joined=$((joined + 1)); done
    echo "$joined of $others other nodes joined" >&2
fi

code=143
if [ -z "$notice" ]; then
    # Also --resume=never goes on with what this job began.
    [ "${SLURM_RESTART_COUNT:-0}" = 0 ] || set -- "$@" --resume=auto
    python -c "$SHIELD" raygen tune "$@" &
    search=$!
    await "$search"
    code=$?
elif [ "$notice" = USR1 ]; then # to requeue could repeat this for ever
    echo "error: its time was over before the search had begun; raise #SBATCH --time" >&2
    code=1
fi
stop_ray
for _ in {1..20}; do # the other nodes tidy up, too: they would be killed when this script ends
    kill -0 "${step:-}" 2>/dev/null || break
    sleep 0.5
done

if [ "$code" = 138 ]; then # ended by SIGUSR1
    if [ "$notice" = USR1 ] && scontrol requeue "$SLURM_JOB_ID"; then
        echo "saved before the job's end, and requeued" >&2
        exit 0
    fi
    [ "$notice" != TERM ] || code=143
fi
exit "$code"
