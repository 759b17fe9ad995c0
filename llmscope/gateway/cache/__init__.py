"""Answers that need not be bought twice.

    exact      answers under their key, bought once however many ask at a time
    semantic   the same, and answers to prompts that mean the same
    memory     where a process keeps them, within bounds of time, number and bytes
    similarity finding the nearest of many vectors
    redis_tier where processes share them (extra `redis`, loaded when it is first used)
    keys       what makes two calls the same

What does not belong here: whether a call may be answered from a cache at all (its route's policy).
"""
