#!/usr/bin/env bash
# One stage as a batch job; `submit_pipeline.sh` chains them all. docs/cluster.md explains it.
#
#   sbatch scripts/slurm/stage.sh evaluate run.yaml
#   sbatch --array=0-31 scripts/slurm/stage.sh ingest run.yaml       # 32 shards; once more without
#   sbatch --nodes=4 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=8 \
#     scripts/slurm/stage.sh train run.yaml training.epochs=5        # --array to join them
#
# Reads: ARRA_MED_ENV, ARRA_MED_OUTPUT, ARRA_MED_SOURCE, ARRA_MED_MAX_REQUEUES. Partition, account,
# time and the like come from SBATCH_* variables or from the command line.
#SBATCH --job-name=arra-med
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@180
set -euo pipefail

stopped=75 # `train` wrote a checkpoint because it was told to stop: EX_TEMPFAIL
say() { printf '%s job %s: %s\n' "$(date +%H:%M:%S)" "$SLURM_JOB_ID" "$*" >&2; }

if (($# < 2)); then
  printf 'usage: sbatch [options] stage.sh VERB CONFIG.yaml [key=value …]\n' >&2
  exit 2
fi
verb=$1 config=$2
shift 2

# A file to source: a virtual environment's bin/activate, or lines of `module load`.
if [[ -n ${ARRA_MED_ENV:-} ]]; then
  set +u # neither modules nor activate scripts promise to work with it
  # shellcheck source=/dev/null
  source "$ARRA_MED_ENV"
  set -u
fi
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 ARRA_MED_OFFLINE=1 PYTHONUNBUFFERED=1
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

arguments=("$verb" "$config")
if [[ -n ${ARRA_MED_OUTPUT:-} ]]; then
  arguments+=("paths.output=$ARRA_MED_OUTPUT")
fi
if [[ -n ${ARRA_MED_SOURCE:-} && $verb == ingest ]]; then
  arguments+=("ingest.dataset.root=$ARRA_MED_SOURCE")
fi
arguments+=("$@")
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
  # shellcheck disable=SC2153 # Slurm sets them all
  if ((SLURM_ARRAY_TASK_MIN != 0 || SLURM_ARRAY_TASK_MAX != SLURM_ARRAY_TASK_COUNT - 1)); then
    say "an array must count from 0 without gaps (--array=0-31), or shards do not know how many" \
      "they are. Submit the whole array again: finished parts are kept"
    exit 2
  fi
  arguments+=(--shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT")
fi

step=(--ntasks=1 --nodes=1)
if [[ $verb == train ]]; then
  tasks=${SLURM_TASKS_PER_NODE%%[(,]*} gpus=${SLURM_GPUS_ON_NODE:-0}
  if ((gpus > 0 && tasks != gpus)); then
    say "training takes one task a GPU: this node has $gpus GPUs and $tasks tasks." \
      "Submit with --ntasks-per-node=$gpus"
    exit 2
  fi
  mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  export MASTER_ADDR=${hosts[0]} MASTER_PORT=$((10000 + SLURM_JOB_ID % 20000))
  step=(--ntasks="${SLURM_NTASKS:-$SLURM_JOB_NUM_NODES}") # unset if nothing was asked for
fi
# srun has not passed this on by itself since Slurm 22.05.
step+=(${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"})

# Slurm may signal this shell as well as the step: go on until the step has ended by itself.
trap : USR1 USR2 TERM
say "start $((${SLURM_RESTART_COUNT:-0} + 1)) of arra-med $verb on ${SLURM_JOB_NODELIST:-?}"
code=0
# Ranks that stop for a checkpoint end one after another: the first must not have the others
# killed, or the step's exit code would say "killed" (137), not "come again" (75).
srun --kill-on-bad-exit=0 --mpi=none "${step[@]}" arra-med "${arguments[@]}" || code=$?

case $code in
  0) exit 0 ;;
  # Beside 75: ended by USR1, USR2 or TERM, as in the stages that keep every finished part anyway.
  "$stopped" | 138 | 140 | 143) ;;
  *)
    say "arra-med $verb ended with exit code $code"
    exit "$code"
    ;;
esac

# again COMMAND …: try up to five times; the controller is busy when many jobs are signalled at once.
again() {
  for pause in 5 10 20 40 0; do
    if "$@"; then return; fi
    sleep "$pause"
  done
  say "the controller does not answer, so the job could not be put back: submit it again"
  exit "$code"
}
state=$(again squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
if [[ $state != RUNNING ]]; then # cancelled or pre-empted: Slurm has already decided what follows
  say "stopped while $state"
  exit "$code"
fi
if ((${SLURM_RESTART_COUNT:-0} >= ${ARRA_MED_MAX_REQUEUES:-100})); then
  say "stopped again after ${SLURM_RESTART_COUNT:-0} restarts (ARRA_MED_MAX_REQUEUES): giving up"
  exit 1
fi
say "stopped to go on later: back to the queue"
again scontrol requeue "$SLURM_JOB_ID"
