"""Errors of the demo, in one tree.

DemoError
├── TraceError (ValueError)                the bundled trace is missing or is not what it should be
├── StoryError (ValueError)                a story that names something it does not have
└── ForeignFolderError (FileExistsError)  the demo would replace a folder that it did not make
"""

from __future__ import annotations

from governance_pipeline.errors import PipelineError


class DemoError(PipelineError):
    """Root of the tree; the message says what was found and what to do."""


class TraceError(DemoError, ValueError):
    """The bundled trace is missing or is not what it should be."""


class StoryError(DemoError, ValueError):
    """A story that contradicts itself: it plants something on a tenant, route or feature it has not."""


class ForeignFolderError(DemoError, FileExistsError):
    """The demo's folder exists and holds something that the demo did not write."""
