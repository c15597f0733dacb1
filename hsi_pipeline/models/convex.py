"""Classifiers of single spectra that are solved, not trained: linear, and of kernels.

Both are multinomial logistic regressions with squared weights penalised: a convex problem with one
solution, which L-BFGS finds at once where stochastic gradients would still be on their way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from torch import Tensor, nn

_RARITY = -0.5  # power of a class's pixels by which each of them counts
_SMALLEST = 1e-6  # eigenvalues of the centres' kernel below this share of the largest: rounding
_ROW_PIXELS = 65_536  # pixels whose kernel values are in memory at once


def logistic_regression(
    x: Tensor, labels: Tensor, classes: int, *, penalty: float
) -> tuple[Tensor, Tensor]:
    """Solve a multinomial logistic regression.

    A pixel of a rare class counts more than one of a common class, by the inverse square root of
    their numbers: halfway between the labels as they are and equal classes.

    Args:
        x: Features (pixel, feature).
        labels: Class indices (pixel,) int64.
        classes: Number of classes.
        penalty: Weight of the squared weights, over two, against the labels' log-likelihood,
            summed over pixels.

    Returns:
        Weights (class, feature) and biases (class,), float64.
    """
    x = x.double()
    rarity = torch.bincount(labels, minlength=classes).double().clamp(min=1) ** _RARITY
    rarity = rarity * len(labels) / rarity[labels].sum()
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(x, weight, bias), labels, rarity, reduction="sum")
        value = (value + penalty / 2 * weight.square().sum()) / len(x)
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()


class KernelClassifier(nn.Module):
    """Logistic regression on Gaussian kernels around some of the training spectra.

    Source of the features: Williams & Seeger, Using the Nyström method to speed up kernel
    machines, NIPS 2000. They are linear in the kernel values, as is the regression, so that what is
    kept is one weight per centre and class.
    """

    centers: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, classes: int, *, centers: int, penalty: float) -> None:
        """Make room for a solution.

        Args:
            features: Input features; on average each should have variance 1.
            classes: Output classes.
            centers: Most kernels.
            penalty: As for `logistic_regression`.
        """
        super().__init__()
        self.penalty = penalty
        self.gamma = 0.5 / features
        """Two spectra that have nothing in common, at a squared distance of 2 for each feature,
        have a kernel value of 1/e."""
        self.register_buffer("centers", torch.zeros(centers, features))
        self.register_buffer("weight", torch.zeros(classes, centers))
        self.register_buffer("bias", torch.zeros(classes))

    @torch.no_grad()
    def start(self, x: Tensor, labels: Tensor) -> None:
        """Solve it.

        Args:
            x: Features of training pixels (pixel, feature); the centres are drawn from them by
                PyTorch's generator.
            labels: Class indices (pixel,) int64.
        """
        count = min(len(x), len(self.centers))
        self.centers[:count] = x[torch.randperm(len(x))[:count]]
        used = self.centers[:count].double()
        values, vectors = torch.linalg.eigh(self._kernel(used, used))
        kept = values > values[-1] * _SMALLEST
        features = vectors[:, kept] * values[kept].rsqrt()
        weight, bias = logistic_regression(
            self._kernel(x.double(), used) @ features, labels, len(self.bias), penalty=self.penalty
        )
        self.weight[:, :count] = weight @ features.T
        self.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Score features (B, feature, y, x); returns (B, class, y, x), float32."""
        rows = max(_ROW_PIXELS // (x.shape[0] * x.shape[3]), 1)
        return torch.cat([self._scores(part) for part in x.split(rows, dim=2)], dim=2)

    def _scores(self, x: Tensor) -> Tensor:
        # Not in half precision: of bright pixels the distance is a small difference.
        with torch.autocast(x.device.type, enabled=False):
            spectra = x.to(self.centers.dtype).movedim(1, -1)
            return F.linear(self._kernel(spectra, self.centers), self.weight, self.bias).movedim(
                -1, 1
            )

    def _kernel(self, x: Tensor, centers: Tensor) -> Tensor:
        """Return exp(-gamma |x - c|^2) (..., center) of x (..., feature)."""
        near = F.linear(x, centers).mul_(2)
        near.sub_(x.square().sum(-1, keepdim=True)).sub_(centers.square().sum(-1))
        return near.mul_(self.gamma).clamp_(max=0).exp_()
