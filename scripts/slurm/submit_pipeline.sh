#!/usr/bin/env bash
# Submit every stage of a configuration as batch jobs, each after those whose results it reads:
#
#   scripts/slurm/submit_pipeline.sh run.yaml [key=value …] [-- options for every sbatch]
#
#   ingest ─┬─ train-tokenizer ── tokenize ─┬─ train ── generate ── evaluate
#           └─ features ────────────────────┘
#
# Prints a line a job: its name, its id, what it waits for. Finished stages end within a minute, so
# the same command resumes a pipeline. docs/cluster.md explains it.
#
# Environment, all optional:
#   ARRA_MED_ENV           file to source before arra-med: bin/activate, or lines of `module load`
#   ARRA_MED_LOGS          folder for the logs (./logs), <name>-<job id>.log
#   ARRA_MED_OUTPUT        overrides paths.output
#   ARRA_MED_SOURCE        overrides ingest.dataset.root, of data sets that have one
#   ARRA_MED_STAGES        the stages to submit (all): "train generate evaluate"
#   ARRA_MED_SHARDS        jobs that share ingest, tokenize, features and generate (1);
#                          ARRA_MED_SHARDS_FEATURES=8 for one of them
#   ARRA_MED_SBATCH        options for every sbatch; ARRA_MED_SBATCH_TRAIN="--nodes=4 …" for one stage
#   ARRA_MED_MAX_REQUEUES  how often a job may go back to the queue (100)
set -euo pipefail
shopt -s inherit_errexit # a failed sbatch ends the chain, though it runs within $(…)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if (($# < 1)) || [[ $1 == -* ]]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
config=$(realpath "$1")
shift
overrides=()
while (($# > 0)) && [[ $1 != -- ]]; do
  overrides+=("$1")
  shift
done
everywhere=("${@:2}")
logs=${ARRA_MED_LOGS:-logs}
stages=" ${ARRA_MED_STAGES:-ingest train-tokenizer tokenize features train generate evaluate} "

# A wrong configuration is said here and now, not by seven jobs that wait for each other.
(
  if [[ -n ${ARRA_MED_ENV:-} ]]; then
    set +u
    # shellcheck source=/dev/null
    source "$ARRA_MED_ENV"
  fi
  given=(${ARRA_MED_OUTPUT:+"paths.output=$ARRA_MED_OUTPUT"})
  if [[ -n ${ARRA_MED_SOURCE:-} && $stages == *" ingest "* ]]; then
    given+=("ingest.dataset.root=$ARRA_MED_SOURCE")
  fi
  arra-med validate "$config" "${given[@]}" "${overrides[@]}" >/dev/null
)
for stage in $stages; do
  case $stage in
    ingest | train-tokenizer | tokenize | features | train | generate | evaluate) ;;
    *)
      printf 'ARRA_MED_STAGES: %s is not a stage\n' "$stage" >&2
      exit 2
      ;;
  esac
done
for name in "${!ARRA_MED_SHARDS@}" ARRA_MED_MAX_REQUEUES; do
  if [[ ! ${!name:-1} =~ ^(0|[1-9][0-9]*)$ || ($name != *REQUEUES && ${!name:-1} == 0) ]]; then
    printf '%s: expected a number, got %s\n' "$name" "${!name}" >&2
    exit 2
  fi
done
mkdir -p "$logs" # Slurm starts no job, and says nothing, where it cannot open the log
logs=$(realpath "$logs")

# of_stage NAME STAGE: the value of NAME_STAGE.
of_stage() {
  local name="${1}_${2^^}"
  name=${name//-/_}
  printf '%s' "${!name:-}"
}

# submit NAME LOG AFTER STAGE [sbatch options …]: print the job's id, and a line for people.
submit() {
  local name=$1 log=$2 after=$3 stage=$4 common=() own=() id
  shift 4
  read -ra common <<<"${ARRA_MED_SBATCH:-}"
  read -ra own <<<"$(of_stage ARRA_MED_SBATCH "$stage")"
  id=$(sbatch --parsable --job-name="arra-$name" --output="$logs/$log.log" \
    ${after:+--dependency="afterok$after" --kill-on-invalid-dep=yes} \
    "${common[@]}" "${everywhere[@]}" "${own[@]}" "$@" \
    "$here/stage.sh" "$stage" "$config" "${overrides[@]}")
  id=${id%%;*}
  printf '%-18s %s%s\n' "$name" "$id" "${after:+  after${after//:/ }}" >&3
  printf '%s' "$id"
}

# run STAGE AFTER: submit a stage, as shards and a joining job if asked for; print ":id" of the last
# job. Nothing for a stage that was not asked for: what comes after it then waits for what it awaits.
run() {
  local stage=$1 after=$2 shards=1 id
  if [[ $stages != *" $stage "* ]]; then
    printf '%s' "$after"
    return
  fi
  case $stage in
    ingest | tokenize | features | generate)
      shards=$(of_stage ARRA_MED_SHARDS "$stage")
      shards=${shards:-${ARRA_MED_SHARDS:-1}}
      ;;
  esac
  if ((shards > 1)); then
    id=$(submit "$stage-shards" "%x-%A_%a" "$after" "$stage" --array="0-$((shards - 1))")
    after=:$id
  fi
  id=$(submit "$stage" "%x-%j" "$after" "$stage")
  printf ':%s' "$id"
}

exec 3>&1
prepared=$(run ingest "")
tokenizer=$(run train-tokenizer "$prepared")
tokens=$(run tokenize "$tokenizer")
features=$(run features "$prepared")
both=$tokens
if [[ $features != "$tokens" ]]; then both+=$features; fi
trained=$(run train "$both")
generated=$(run generate "$trained")
run evaluate "$generated" >/dev/null
printf 'logs: %s\n' "$logs"
