set -u
export PYTHONUNBUFFERED=1 TRITON_CACHE_DIR=/tmp/triton HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
export PYTHONPATH=/tmp/site:$PWD:$PWD/scripts:$PWD/tests
L=/tmp/logs; mkdir -p $L
t0=$(date +%s)
step() { name=$1; limit=$2; shift 2; b=$(date +%s); timeout -k 5 $limit "$@" > $L/$name.log 2>&1; rc=$?; echo "$name rc=$rc $(( $(date +%s) - b )) s (at $(( $(date +%s) - t0 )))" | tee -a $L/_steps; }
step machine 60 python3 -m gpu_contact.machine
grep '=>' $L/machine.log
T=tests/engines/batching/compute
P="python3 -m pytest -q -p no:cacheprovider -m gpu --timeout 100"
export OMP_NUM_THREADS=2
step kernels-bf16 110 $P $T/test_cuda_kernels.py -k bfloat16 &
step kernels-fp16 110 $P $T/test_cuda_kernels.py -k float16\ and\ not\ bfloat16 &
step kernels-fp32 110 $P $T/test_cuda_kernels.py -k float32 &
step graphs 110 $P $T/test_cuda_graphs.py &
for i in 0 1 2 3; do step equality-$i 110 python3 -m gpu_contact.equality $i/4 & done
step failures 90 python3 -m gpu_contact.failures &
step recompilation 90 python3 -m gpu_contact.recompilation &
wait
unset OMP_NUM_THREADS
step cost-0.6b 75 python3 -m gpu_contact.step_cost qwen3-0.6b
step profile-0.6b 40 python3 -m gpu_contact.replay_profile qwen3-0.6b 8 1024
step sampling 40 python3 -m gpu_contact.sampling_cost
step cost-8b 80 python3 -m gpu_contact.step_cost llama-3.1-8b
step profile-8b 40 python3 -m gpu_contact.replay_profile llama-3.1-8b 8 1024
step compiled-0.6b 90 python3 -m gpu_contact.step_cost qwen3-0.6b compiled
for f in kernels-bf16 kernels-fp16 kernels-fp32 graphs; do echo "== $f"; tail -n 3 $L/$f.log; done
for f in equality-0 equality-1 equality-2 equality-3 failures recompilation cost-0.6b profile-0.6b sampling cost-8b profile-8b compiled-0.6b; do echo "== $f"; grep -h '=>' $L/$f.log | cut -c1-200 | head -40; done > $L/_summary
tar czf $OUT/logs.tgz -C /tmp logs
cat $L/_steps
