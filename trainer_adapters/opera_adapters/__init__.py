"""OPERA rewards inside RL trainers: one thin file a trainer, imported by name when it is used.

    from opera_adapters.trl import OperaReward, PolicySync

Importing this package needs no trainer. Adapters speak to a service through `opera_client` and know nothing of it.
"""
