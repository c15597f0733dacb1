"""HyperLoopNets beside classifiers of spectra, fused late: for few, noisy, unbalanced labels.

Neighbouring bands say nearly the same thing, so what tells two materials apart is often a
direction of small variance, which stochastic gradients find late and convex optimisation at once.
All parts therefore work on half whitened principal components of the training spectra
(`components`). The parts are a linear classifier and one of kernels, both solved exactly; a
small network that sees single spectra; and HyperLoopNets, which see neighbours too. Each learns
from the labels on its own: a network that learns what the others leave over learns mostly the
labels' noise.

Which variant was kept, and what each part contributes, is measured in benchmarks/accuracy.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from torch import Tensor, nn

from hsi_pipeline.models.components import half_whitening
from hsi_pipeline.models.convex import KernelClassifier, logistic_regression
from hsi_pipeline.models.hyperloopnet import HyperLoopNet, only_valid
from hsi_pipeline.models.spectral import SpectralNet

_PARTS = 4
_SHARE = 1 / _PARTS  # weight of each part before `balance`


class FusionNet(nn.Module):
    """Scores of each class: a weighted sum of those of its parts."""

    band_mean: Tensor
    band_std: Tensor
    basis: Tensor
    shares: Tensor

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        components: int = 50,
        members: int = 1,
        input_dropout: float = 0.1,
        dropout: float = 0.3,
        penalty: float = 10.0,
        centers: int = 300,
        kernel_penalty: float = 0.1,
        **network: Any,
    ) -> None:
        """Build the parts.

        Args:
            bands: Input bands.
            classes: Output classes.
            components: Principal components, fewer where there are fewer bands.
            members: HyperLoopNets whose scores are averaged; they differ in their first weights and
                in what dropout hides.
            input_dropout: Share of the components hidden in training.
            dropout: Share of the features hidden in training.
            penalty: Weight of the squared weights of the linear part against the labels'
                log-likelihood, summed over pixels.
            centers: Kernels of the kernel part, fewer where there are fewer training pixels.
            kernel_penalty: As `penalty`, for the kernel part.
            **network: Settings of `HyperLoopNet`.

        Raises:
            ValueError: A setting is out of range.
        """
        super().__init__()
        if components < 1 or members < 1 or centers < 1:
            raise ValueError(
                f"components {components}, members {members} and centers {centers} must be at "
                "least 1"
            )
        if not (0 <= input_dropout < 1 and penalty > 0 and kernel_penalty > 0):
            raise ValueError(
                f"input_dropout {input_dropout} must be at least 0 and below 1, penalty {penalty} "
                f"and kernel_penalty {kernel_penalty} above 0"
            )
        components = min(components, bands)
        self.input_dropout = input_dropout
        self.penalty = penalty
        self.linear = nn.Linear(components, classes).requires_grad_(False)
        self.kernel = KernelClassifier(components, classes, centers=centers, penalty=kernel_penalty)
        self.spectral = SpectralNet(components, classes, dropout=dropout)
        self.members = nn.ModuleList(
            HyperLoopNet(components, classes, dropout=dropout, **network) for _ in range(members)
        )
        self.register_buffer("band_mean", torch.zeros(bands))
        self.register_buffer("band_std", torch.ones(bands))
        self.register_buffer("basis", torch.eye(components, bands))
        self.register_buffer("shares", torch.full((_PARTS,), _SHARE))

    @property
    def halo(self) -> int:
        """Pixels of context on each side that make a window's scores exact."""
        return self.members[0].halo  # type: ignore[return-value]

    @property
    def window(self) -> int | None:
        """Side of the pooling window; None is the patch form."""
        return self.members[0].window  # type: ignore[return-value]

    @torch.no_grad()
    def start(self, spectra: Tensor, labels: Tensor) -> None:
        """Half whiten by spectra of the training pixels, and solve the convex parts.

        Args:
            spectra: Reflectance (pixel, bands); `band_mean` and `band_std` are set.
            labels: Class indices (pixel,) int64.
        """
        x = (spectra.double() - self.band_mean) / self.band_std
        self.basis.copy_(half_whitening(x, len(self.basis)))
        z = F.linear((spectra - self.band_mean) / self.band_std, self.basis)
        weight, bias = logistic_regression(z, labels, len(self.linear.bias), penalty=self.penalty)
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(bias)
        self.kernel.start(z, labels)

    @torch.enable_grad()
    def balance(self, parts: Tensor, labels: Tensor) -> None:
        """Weigh the parts by the likelihood of labels that they have not learnt from.

        Args:
            parts: What `parts` gave at these pixels (4, pixel, class).
            labels: Class indices (pixel,) int64.
        """
        parts = parts.detach().double()
        # Logarithms, so that no weight turns negative, and a faint pull to where they start.
        start = torch.full((_PARTS,), _SHARE, dtype=torch.float64).log()
        logs = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([logs], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(torch.einsum("p,pnc->nc", logs.exp(), parts), labels)
            value = value + 0.01 * (logs - start).square().sum()
            value.backward()
            return value

        optimizer.step(loss)  # type: ignore[arg-type]
        with torch.no_grad():
            self.shares.copy_(logs.exp())

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Score reflectance (B, bands, H, W), as `HyperLoopNet` does."""
        return torch.einsum("p,pbkyx->bkyx", self.shares, self.parts(x, valid))

    def parts(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the scores of each part (4, B, class, y, x): linear, kernel, spectral, loop."""
        x = self._components(x, valid)
        linear = F.conv2d(x, self.linear.weight[:, :, None, None], self.linear.bias)
        networks = torch.stack([member(x, valid) for member in self.members]).mean(0)
        return torch.stack([linear, self.kernel(x), self.spectral(x, valid), networks])

    def separate_scores(self, x: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Return the scores of each network, which are trained one by one, shape as `forward`."""
        x = self._components(x, valid)
        return [
            network(F.dropout(x, self.input_dropout, self.training), valid)
            for network in (self.spectral, *self.members)
        ]

    def _components(self, x: Tensor, valid: Tensor | None) -> Tensor:
        x = (x - self.band_mean[:, None, None]).div_(self.band_std[:, None, None])
        x = only_valid(x, valid)
        return F.conv2d(x, self.basis[:, :, None, None])
