#!/bin/bash
# Runs `its predict` as a SLURM job on two nodes of four GPUs, with one task for each GPU.
# sbatch configs/slurm/predict.sh --config configs/paper/table1.yaml
#
# Adapt the #SBATCH lines to the cluster; the trainer options below are derived from them. Missing weights are an error.
# To resume, for example after a time limit, submit the same command again: it makes only the missing samples.

#SBATCH --job-name=its
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=its-%j.log

set -euo pipefail

export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export HF_HUB_OFFLINE=1 # compute nodes rarely have a network: download the weights on the login node first

if [ -f .venv/bin/activate ]; then
    source .venv/bin/activate
fi

# If a task fails, end all others, which would wait for it. Since SLURM 22.05, srun does not inherit --cpus-per-task.
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" its predict "$@" \
    --model.fallback null \
    --trainer.accelerator gpu \
    --trainer.devices "${SLURM_NTASKS_PER_NODE:-1}" \
    --trainer.num_nodes "${SLURM_JOB_NUM_NODES:-1}"
