"""OPERA rewards in Axolotl: the module that `trl.reward_funcs` names.

    opera-reward serve --model Qwen/Qwen3-0.6B &
    PYTHONPATH=examples axolotl train config.yaml      # trl: {reward_funcs: [axolotl_rewards.opera]}

The dataset's transform must keep a column `reference`. docs/trainers/axolotl.md has the rest.
"""

from __future__ import annotations

from opera_adapters.reward import Blocking, OperaReward

opera = Blocking(OperaReward())  # Axolotl's TRL awaits functions, not objects
