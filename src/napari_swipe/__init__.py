"""SwIPE Segment: a napari plugin over `swipe_core`.

Nothing here imports torch, or anything else that is slow, before work starts.
"""

from __future__ import annotations
