"""The model that was used last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swipe_core.prediction.predictor import Predictor


class PredictorCache:
    """The model that was used last, so that the next image need not load it again."""

    def __init__(self) -> None:
        self._key: tuple[Path, float, str] | None = None
        self._predictor: Predictor | None = None

    def load(self, path: Path, device: str, settings: Mapping[str, Any] | None = None) -> Predictor:
        """Return a predictor, read again only when its file or the device has changed.

        Parameters
        ----------
        settings
            Fields of `InferenceConfig` that are to be other than the model has them.

        Raises
        ------
        SwipeError
            When the file or the device cannot be used, or the model has no such axis.
        """
        from swipe_core.prediction.predictor import Predictor

        key = (path, path.stat().st_mtime if path.is_file() else 0.0, device)
        if self._predictor is None or key != self._key:
            self._predictor = Predictor.load(path, device=device)
            self._key = key
        if not settings:
            return self._predictor
        return self._predictor.with_config(self._predictor.config.model_copy(update=dict(settings)))
