#!/usr/bin/env bash
# GRPO with OPERA rewards in verl 0.9 on one machine with eight GPUs. Not run by us: no GPU was at hand. The lines that
# concern us are marked; their names and the rollout they configure are tested on the CPU (tests/adapters/verl).
#
#   opera-reward serve --engine vllm --model Qwen/Qwen3-8B --weight-version run-1/0     # on a machine of its own
#   OPERA_REWARD_URL=http://scorer:8000 OPERA_ADMIN_KEY=… examples/verl_grpo.sh
#
# The Parquet files have verl's columns; reward_model.ground_truth is the known good answer, extra_info.split is
# "train" or "test". examples/verl_rollout.py writes one.
set -euo pipefail

python -m verl.trainer.main_ppo \
    algorithm.adv_estimator=grpo \
    data.train_files="${TRAIN_FILES:-data/train.parquet}" \
    data.val_files="${VAL_FILES:-data/test.parquet}" \
    data.train_batch_size=128 data.max_prompt_length=1024 data.max_response_length=8192 \
    actor_rollout_ref.model.path=Qwen/Qwen3-8B \
    actor_rollout_ref.actor.optim.lr=1e-6 \
    actor_rollout_ref.actor.ppo_mini_batch_size=64 \
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1 \
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=1 \
    actor_rollout_ref.rollout.name=vllm \
    actor_rollout_ref.rollout.n=8 \
    trainer.n_gpus_per_node=8 trainer.nnodes=1 trainer.total_epochs=1 trainer.test_freq=20 \
    reward.num_workers=1 \
    +actor_rollout_ref.rollout.agent.agent_loop_manager_class=opera_adapters.verl.OperaAgentLoopManager `# 1` \
    +reward.opera.run_id=run-1 +reward.opera.max_lag=20                                                `# 2` \
    trainer.checkpoint_callback_class=opera_adapters.verl.OperaCheckpointCallback                      `# 3` \
    trainer.save_freq=20                                                                               `# 3` \
    'actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]'                `# 3` \
    trainer.v1.sampler.custom_sampler.path=pkg://opera_adapters.verl                                   `# 4` \
    trainer.v1.sampler.custom_sampler.name=LoggingReplayBuffer                                         `# 4` \
    trainer.v1.sampler.sync_refill_failed_groups=true                                                  `# 5` \
    +trainer.v1.sampler.sampler_kwargs.sync_refill_failed_groups=true                                  `# 5` \
    +trainer.v1.sampler.sampler_kwargs.gen_batch_size=1                                                `# 5` \
    "$@"
