"""Changes of grey values and colours: what augmentation does to an image without moving anything."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor


@dataclass(frozen=True)
class Appearance:
    """A change of grey values or colours that moves nothing.

    Every part is relative to the image's own statistics, so it means the same whether intensities
    are in [0, 1], in [-1, 1] or standardised, and nothing is clipped.
    """

    gamma: float = 1.0
    """Exponent of the curve through each channel's smallest and largest value."""
    contrast: float = 1.0
    brightness: float = 0.0
    """`contrast` and `brightness`: each channel's deviation from its mean is multiplied, then the mean moved
    by that many of the channel's standard deviations.
    """
    saturation: float = 1.0
    hue: float = 0.0
    """`saturation` and `hue`: with 3 channels: distance from the grey axis is multiplied, then turned about
    that axis (in whole turns). A linear map of colours, unlike the HSV of image editors.
    """
    tint: tuple[float, ...] = ()
    """What each channel's distance from its smallest value is multiplied with, as under other light; empty:
    nothing.
    """
    blur: float = 0.0
    """Standard deviation of a Gaussian, in voxels."""
    noise: float = 0.0
    """Standard deviation of additive Gaussian noise, in those of each channel."""
    noise_seed: int = 0
    """What the noise is made from."""

    def apply(self, image: Float[Tensor, "channels *shape"]) -> Float[Tensor, "channels *shape"]:
        """Return a changed image of the same shape; without any change the given one."""
        axes = tuple(range(1, image.ndim))
        if self.gamma != 1:
            image = self._curve(image, axes)
        if (self.contrast, self.brightness) != (1, 0):
            deviation, mean = torch.std_mean(image, axes, correction=0, keepdim=True)
            image = image * self.contrast + (mean * (1 - self.contrast) + deviation * self.brightness)
        if image.shape[0] == 3 and (self.saturation, self.hue) != (1, 0):
            image = torch.tensordot(self._colour_matrix().to(image), image, dims=1)
        if self.tint:
            low = image.amin(axes, keepdim=True)
            image = low + (image - low) * image.new_tensor(self.tint).view(-1, *([1] * len(axes)))
        if self.blur > 0:
            deviations = (0.0, *[self.blur] * len(axes))
            blurred = ndimage.gaussian_filter(image.numpy(), deviations, mode="nearest", truncate=3.0)
            image = torch.from_numpy(blurred)
        if self.noise != 0:
            image = image + self.noise * image.std(axes, correction=0, keepdim=True) * self._noise_like(image)
        return image

    def _curve(self, image: Tensor, axes: tuple[int, ...]) -> Tensor:
        low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
        span = high - low
        share = (image - low) / span.clamp(min=torch.finfo(image.dtype).tiny)
        return low + span * share**self.gamma

    def _colour_matrix(self) -> Float[Tensor, "3 3"]:
        grey = torch.full((3, 3), 1 / 3, dtype=torch.float64)
        across = torch.tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)
        angle = 2 * math.pi * self.hue
        turned = math.cos(angle) * (torch.eye(3, dtype=torch.float64) - grey) + math.sin(angle) * across
        return grey + self.saturation * turned

    def _noise_like(self, image: Tensor) -> Tensor:
        # Made on the CPU, so that the same seed gives the same noise on every device.
        generator = torch.Generator().manual_seed(self.noise_seed)
        return torch.randn(image.shape, generator=generator).to(image)
