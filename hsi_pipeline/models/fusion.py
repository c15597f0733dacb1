"""HyperLoopNets beside classifiers of spectra, fused late: for few, noisy, unbalanced labels.

Neighbouring bands say nearly the same thing, so what tells two materials apart is often a
direction of small variance, which stochastic gradients find late and convex optimisation at once.
All parts therefore work on principal components of the training spectra, half whitened: raised
by the fourth root of their variance. Not at all, and small differences drown; fully, and noise is
as loud as signal. The parts are a linear classifier, solved exactly; a small network that sees
single spectra; and HyperLoopNets, which see neighbours too. Each learns from the labels on its
own: a network that learns what the others leave over learns mostly the labels' noise.

Which variant was kept, and what each part contributes, is measured in benchmarks/accuracy.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own name for it
from torch import Tensor, nn

from hsi_pipeline.models.hyperloopnet import HyperLoopNet, only_valid
from hsi_pipeline.models.spectral import SpectralNet

_RIDGE = 1e-4  # added to each component's variance, that of a standardised band being 1
_RARITY = -0.25  # power of a class's pixels by which each of them counts in the linear part
_SHARES = [1 / 3, 1 / 3, 1 / 3]  # weights of the parts before `balance`


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
            **network: Settings of `HyperLoopNet`.

        Raises:
            ValueError: A setting is out of range.
        """
        super().__init__()
        if components < 1 or members < 1:
            raise ValueError(f"components {components} and members {members} must be at least 1")
        if not (0 <= input_dropout < 1 and penalty > 0):
            raise ValueError(
                f"input_dropout {input_dropout} must be at least 0 and below 1, penalty {penalty} "
                "above 0"
            )
        components = min(components, bands)
        self.input_dropout = input_dropout
        self.penalty = penalty
        self.linear = nn.Linear(components, classes).requires_grad_(False)
        self.spectral = SpectralNet(components, classes, dropout=dropout)
        self.members = nn.ModuleList(
            HyperLoopNet(components, classes, dropout=dropout, **network) for _ in range(members)
        )
        self.register_buffer("band_mean", torch.zeros(bands))
        self.register_buffer("band_std", torch.ones(bands))
        self.register_buffer("basis", torch.eye(components, bands))
        self.register_buffer("shares", torch.tensor(_SHARES))

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
        """Half whiten by spectra of the training pixels, and solve the linear part.

        Args:
            spectra: Reflectance (pixel, bands); `band_mean` and `band_std` are set.
            labels: Class indices (pixel,) int64.
        """
        x = (spectra.double() - self.band_mean) / self.band_std
        variance, vectors = torch.linalg.eigh(x.T @ x / len(x))
        count = len(self.basis)
        variance, vectors = variance.flip(0)[:count], vectors.flip(1)[:, :count]
        # Directions that the training pixels do not have must not be blown up in other scenes.
        known = variance > variance[0] * 1e-10
        scale = torch.where(known, (variance.clamp(min=0) + _RIDGE) ** -0.25, 0.0)
        scale = scale * (variance * scale.square()).mean().clamp(min=_RIDGE).rsqrt()
        self.basis.copy_((vectors * scale).T)
        self._solve(F.linear((spectra - self.band_mean) / self.band_std, self.basis), labels)

    @torch.enable_grad()
    def _solve(self, x: Tensor, labels: Tensor) -> None:
        """Fit the linear part, a multinomial logistic regression, to components."""
        counts = torch.bincount(labels, minlength=len(self.linear.bias)).double()
        rarity = counts.clamp(min=1) ** _RARITY
        rarity = rarity * len(labels) / rarity[labels].sum()
        weight = torch.zeros_like(self.linear.weight, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros_like(self.linear.bias, dtype=torch.float64, requires_grad=True)
        x = x.double()
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=500, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(F.linear(x, weight, bias), labels, rarity, reduction="sum")
            value = (value + self.penalty / 2 * weight.square().sum()) / len(x)
            value.backward()
            return value

        optimizer.step(loss)  # type: ignore[arg-type]
        self.linear.weight.data.copy_(weight)
        self.linear.bias.data.copy_(bias)

    @torch.enable_grad()
    def balance(self, parts: Tensor, labels: Tensor) -> None:
        """Weigh the parts by the likelihood of labels that they have not learnt from.

        Args:
            parts: What `parts` gave at these pixels (3, pixel, class).
            labels: Class indices (pixel,) int64.
        """
        parts = parts.detach().double()
        # Logarithms, so that no weight turns negative, and a faint pull to where they start.
        start = torch.tensor(_SHARES, dtype=torch.float64).log()
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
        """Return each part's scores: linear, spectral, HyperLoopNets; (3, B, class, y, x)."""
        x = self._components(x, valid)
        linear = F.conv2d(x, self.linear.weight[:, :, None, None], self.linear.bias)
        networks = torch.stack([member(x, valid) for member in self.members]).mean(0)
        return torch.stack([linear, self.spectral(x, valid), networks])

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
