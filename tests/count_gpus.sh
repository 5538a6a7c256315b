#!/usr/bin/env bash
# How many GPUs a CUDA program sees here: those of CUDA_VISIBLE_DEVICES where it is set, else the machine's (the instances
# of a divided one are not counted).
if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
  awk -F, '{ n = NF } END { print n + 0 }' <<<"$CUDA_VISIBLE_DEVICES"
else
  nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU '
fi
exit 0
