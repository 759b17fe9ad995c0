"""`governance demo`: an hour of real production traffic, replayed through the gate with one planted story.

The trace is real (`trace`), the story is invented and parametrised (`story`), who asks what and when
follows from both (`schedule`), the calls go through the real gate and gateway (`replay`).
"""
