"""Looking at what is sent and what comes back, before either goes on.

    pii            personal data: found and blocked, redacted or noted
    numbers        cards, phone numbers and social security numbers in a text
    addresses      e-mail addresses and IBANs in a text
    checksums      what tells a card or an account from any other number
    redaction      writing over what was found, in whole texts and in streams
    injection      prompts that try to take a model over
    moderation     a judge that the user supplies

What does not belong here: when a guard is asked and what becomes of a blocked call (`pipeline`).
"""
