#!/bin/bash
# A training on several nodes under SLURM, which goes on by itself after a time limit or a preemption:
#
#     sbatch notebooks/slurm.sh
#
# Edit two places: what to ask for, and what to train. The folder of the run must be on a disk that all nodes see.

# ---- 1. What to ask for: one task for each GPU ----
#SBATCH --job-name=s4kit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00

# Five minutes before the end each process is told, saves, and leaves with status 75. An evaluation is not broken off:
# where one takes longer than that, say it earlier.
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out

# ---- 2. What to train: --resume starts a run in its folder, or goes on with the one that is there ----
train=(s4kit train unimatch --data voc --split classic/183 --resume runs/unimatch-183)

# ---- The rest stays as it is ----
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) WORLD_SIZE=$SLURM_NTASKS
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# No launcher in between, so that the signal reaches the training and its status comes back.
srun bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec "$@"' - "${train[@]}"
status=$?
if [ $status -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
