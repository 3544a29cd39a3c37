"""The adversarial term of a tokenizer's loss (Isola et al., 2017; Esser et al., 2021): MONAI's."""

from typing import Any

import torch
from torch import Tensor

from arra_med.errors import RequestError
from arra_med.settings.data import AdversarialTerm


class Adversary:
    """A patch discriminator, its optimizer, and both sides' losses.

    Args:
        term: its settings.
        image_size: side of the pictures in pixels.
        channels: 1 or 3.
        seed: of its random weights.
        device: where it works.

    Raises:
        RequestError: if the pictures are too small for so many layers.
    """

    def __init__(
        self,
        term: AdversarialTerm,
        *,
        image_size: int,
        channels: int,
        seed: int,
        device: torch.device,
    ) -> None:
        from monai.losses.adversarial_loss import PatchAdversarialLoss  # seconds to import
        from monai.networks.nets import PatchDiscriminator

        if image_size // 2**term.layers < 3:  # two last layers take a pixel each
            raise RequestError(
                f"adversarial.layers is {term.layers}, which leaves nothing of pictures of "
                f"{image_size} px: each halves them, and 3 px must be left"
            )
        self.term = term
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.discriminator = PatchDiscriminator(
                spatial_dims=2,
                channels=term.channels,
                in_channels=channels,
                num_layers_d=term.layers,
            ).to(device)
        self._criterion = PatchAdversarialLoss(criterion=term.criterion)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=term.learning_rate, betas=(0.5, 0.999)
        )

    def judge(self, decoded: Tensor) -> Tensor:
        """The term: how far the discriminator is from taking reconstructions for pictures.

        Args:
            decoded: ``(B, C, H, W)`` float32 in [-1, 1], with gradient.

        Returns:
            A number, not yet weighted; the discriminator gets no gradient from it.
        """
        self.discriminator.requires_grad_(False)
        answer = self.discriminator(decoded)[-1]
        self.discriminator.requires_grad_(True)
        loss: Tensor = self._criterion(answer, target_is_real=True, for_discriminator=False)
        return loss

    def learn(self, pixels: Tensor, decoded: Tensor, *, factor: float) -> Tensor:
        """One step of the discriminator on a batch; ``factor`` is the learning rate's decay.

        Returns:
            Its loss: half that on pictures and half that on reconstructions.
        """
        real = self.discriminator(pixels)[-1]
        fake = self.discriminator(decoded.detach())[-1]
        loss: Tensor = 0.5 * (
            self._criterion(real, target_is_real=True, for_discriminator=True)
            + self._criterion(fake, target_is_real=False, for_discriminator=True)
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.term.learning_rate
        self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
