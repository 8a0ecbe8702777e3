"""The reference pipeline: tasks, cold start, SFT, GRPO, evaluation, export and report, one folder a stage.

    opera-reward train demo

TRL trains, the reward service prices; what is here is OPERA's. Knows the service only through its client, its
adapters, its command line and the demo's world.
"""
