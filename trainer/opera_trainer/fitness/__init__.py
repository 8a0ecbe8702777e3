"""Before GRPO is paid for: can these data, this policy and this reward teach anything at all?"""
