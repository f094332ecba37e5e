#!/usr/bin/env bash
# Run the whole recipe: a teacher's dialogues, SFT, AI feedback, DPO, MT-Bench, table and radar.
#
#     scripts/zephyr.sh --out story                     # SmolLM2-135M plays every part, on a CPU
#     scripts/zephyr.sh --out story --rounds 2          # and a second DPO round with its own answers
#     scripts/zephyr.sh --out story --endpoints my.toml --model DIR   # other teacher, judge, student
#
# If it is stopped, the same command continues: finished steps are skipped, and an interrupted one
# asks only what has no answer. Copy scripts/zephyr/endpoints.toml for other models. Endpoints at
# 127.0.0.1:8765 are served by scripts/model_server.py for as long as they are needed, the others
# are yours. The counts below are tiny: they show that the parts fit together, not quality. Each can
# be changed by an environment variable of its name.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=story endpoints=$here/zephyr/endpoints.toml model= rounds=1
usage() {
    echo "usage: $0 [--out DIR] [--endpoints TOML] [--model DIR] [--rounds N]" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || usage
    case $1 in
        --out) out=$2 ;;
        --endpoints) endpoints=$2 ;;
        --model) model=$2 ;;
        --rounds) rounds=$2 ;;
        *) usage ;;
    esac
    shift 2
done
[[ $rounds =~ ^[1-9][0-9]?$ ]] || usage

DIALOGUES=${DIALOGUES:-6}
PROMPTS=${PROMPTS:-5}
TOKENS=${TOKENS:-64}      # maximum of an answer
SEQ_LEN=${SEQ_LEN:-256}   # of training
SFT=${SFT:---config tiny-sft --learning_rate 1e-5 --max_steps 3 --per_device_train_batch_size 1}
DPO=${DPO:---config tiny-dpo --learning_rate 1e-5 --max_steps 3 --per_device_train_batch_size 1}
LAUNCH=${LAUNCH:-accelerate launch --config_file $here/../python/zephyr_fast/configs/accelerate/cpu.yaml}
# Verdicts are read from log-probs, since the model is too small to write them.
VERDICT=${VERDICT:---verdict expected --mass-min 0.02}
QUESTIONS=${QUESTIONS:---questions $here/zephyr/questions.jsonl --references $here/zephyr/references.jsonl}
JUDGE_PROMPTS=${JUDGE_PROMPTS:---judge-prompts $here/zephyr/judge_prompts}

export PATH="$here/../.venv/bin:$PATH" OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONUNBUFFERED=1
port=8765 server=

# Run a step unless it is done, with its output in a log.
step() {
    local name=$1 log=$out/logs/$1.log start=$SECONDS
    shift
    if [ -e "$out/done/$name" ]; then
        echo "$name: done before"
        return
    fi
    echo "$ $*"
    if ! "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "$name failed; the full log is $log; run the same command again to continue" >&2
        exit 1
    fi
    touch "$out/done/$name"
    echo "  $((SECONDS - start)) s"
}

# Whether one of the steps is not done.
is_open() {
    local name
    for name in "$@"; do
        [ -e "$out/done/$name" ] || return 0
    done
    return 1
}

# Serve NAME=DIR… until `stop`, or until this script ends in any way: the server ends when its
# standard input does.
serve() {
    local words=() one log=$out/logs/server.log
    for one in "$@"; do
        if [[ $local_names == *" ${one%%=*} "* ]]; then words+=(--model "$one"); fi
    done
    if [ ${#words[@]} -eq 0 ]; then return; fi
    : >"$log" # before the wait below, which must not read the log of an earlier server
    coproc python "$here/model_server.py" "${words[@]}" --port $port --max-tokens "$TOKENS" \
        --until-eof >"$log" 2>&1
    server=$COPROC_PID
    until grep -q "Running on" "$log"; do
        if ! kill -0 "$server" 2>/dev/null; then
            tail -n 5 "$log" >&2
            echo "the model server ended; the full log is $log" >&2
            exit 1
        fi
        sleep 0.2
    done
}

stop() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
        server=
    fi
}

# Train NAME from a start; from its newest checkpoint if it has one.
train() {
    local name=$1 method=$2 data=$3 start=$4 resume=() args=$SFT
    if [ "$method" = dpo ]; then args=$DPO; fi
    if compgen -G "$out/$name/checkpoint-*/trainer_state.json" >/dev/null; then
        resume=(--resume_from_checkpoint true)
    fi
    # shellcheck disable=SC2086 # options are several words
    step "$name" $LAUNCH -m zephyr_fast.train "$method" $args --eval_strategy no \
        --shards "$data" --model_name_or_path "$start" --output_dir "$out/$name" "${resume[@]}"
}

# One round of feedback on the answers of a student, and DPO from it.
improve() {
    local number=$1 student=$2 name=$3
    local rows=$out/feedback-$number prefs=$out/prefs-$number
    if is_open "feedback-$number"; then
        serve "teacher=$model" "judge=$model" "$student=$out/$student"
        # shellcheck disable=SC2086
        step "feedback-$number" zephyr-fast feedback collect --prompts "$out/shards/text" \
            --limit "$PROMPTS" --pool teacher --student "$student" --samples 2 --judge judge \
            $VERDICT --max-tokens "$TOKENS" --seed "$number" --endpoints "$endpoints" --out "$rows"
        stop
    fi
    step "report-$number" zephyr-fast feedback report "$rows" --html "$rows.html"
    step "prefs-$number" zephyr-fast binarize ultrafeedback --input "$rows/rows.jsonl" \
        --set binarize.repair=false --set shards.test_fraction=0 --tokenizer "$model" \
        --max-length "$SEQ_LEN" --out "$prefs"
    step "ref-logprobs-$number" zephyr-fast ref-logprobs "$prefs" --model "$out/$student"
    train "$name" dpo "$prefs" "$out/$student"
}

evaluate() {
    step "mt-bench-$1" zephyr-fast evaluate mt-bench $QUESTIONS $JUDGE_PROMPTS --answers-from "$1" \
        --name "$1" --judge judge --allow-holes --endpoints "$endpoints" --out "$out/mt-bench/$1"
}

mkdir -p "$out/logs" "$out/done"
[ -n "$model" ] || model=$(python "$here/smollm2.py" "$out")
settings=$(printf '%s\n' "$model" "$endpoints" "$DIALOGUES" "$PROMPTS" "$TOKENS" "$SEQ_LEN" "$SFT" \
    "$DPO" "$VERDICT" "$QUESTIONS" "$JUDGE_PROMPTS")
if [ -e "$out/settings" ] && [ "$(cat "$out/settings")" != "$settings" ]; then
    echo "$out belongs to a run with other settings; use another directory" >&2
    exit 5
fi
echo "$settings" >"$out/settings"
listed=$(zephyr-fast endpoints "$endpoints")
local_names=" $(sed -n "s|^\([^:]*\): .* at http://127.0.0.1:$port/.*|\1|p" <<<"$listed" | tr '\n' ' ')"
models=(base sft)
for ((number = 1; number <= rounds; number++)); do models+=("dpo$number"); done
for name in teacher judge "${models[@]}"; do
    if ! grep -q "^$name: " <<<"$listed"; then
        echo "$endpoints has no [endpoints.$name], which $rounds round(s) of DPO need" >&2
        exit 4
    fi
done

if is_open dialogues; then
    serve "teacher=$model"
    step dialogues zephyr-fast generate dialogues --teacher teacher --count "$DIALOGUES" \
        --rounds 1-2 --max-tokens "$TOKENS" --user-max-tokens "$TOKENS" --keep-cut \
        --endpoints "$endpoints" --out "$out/dialogues"
    stop
fi
step shards zephyr-fast prep ultrachat --input "$out/dialogues/rows.jsonl" \
    --set shards.test_fraction=0 --tokenizer "$model" --seq-len "$SEQ_LEN" --out "$out/shards"
train sft sft "$out/shards" "$model"

student=sft
for ((number = 1; number <= rounds; number++)); do
    improve "$number" "$student" "dpo$number"
    student=dpo$number
done

results=() served=("judge=$model" "base=$model") benches=()
for name in "${models[@]}"; do
    results+=("$out/mt-bench/$name/results/judge.json")
    benches+=("mt-bench-$name")
    [ "$name" = base ] || served+=("$name=$out/$name")
done
if is_open "${benches[@]}"; then
    serve "${served[@]}"
    for name in "${models[@]}"; do evaluate "$name"; done
    stop
fi
# Published figures are of other questions and another judge.
zephyr-fast compare "${results[@]}" --published none | tee "$out/table.md"
zephyr-fast radar "${results[@]}" --out "$out/radar.png"
