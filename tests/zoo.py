"""Modules and data as people write them for Lightning: nothing here knows of this project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pydoc_data.topics import topics
from typing import Any

import lightning.pytorch
import pytorch_lightning as pl
import torch
import torchvision
from pytorch_lightning.demos.transformer import Transformer
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

N_TRAIN, N_VAL = 128, 64
Batch = tuple[Tensor, Tensor]


@cache
def digits() -> TensorDataset:
    """Handwritten digits: images, shape (192, 1, 8, 8), from 0 to 1, and labels."""
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images[: N_TRAIN + N_VAL], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    return TensorDataset(images, torch.tensor(labels[: N_TRAIN + N_VAL]))


@cache
def diabetes() -> TensorDataset:
    """Ten measurements of 192 patients and how far the illness went a year later, standardised."""
    inputs, targets = load_diabetes(return_X_y=True)
    inputs, targets = torch.tensor(inputs[:192], dtype=torch.float32), torch.tensor(targets[:192], dtype=torch.float32)
    return TensorDataset((inputs - inputs.mean(0)) / inputs.std(0), ((targets - targets.mean()) / targets.std())[:, None])


class DigitsData(pl.LightningDataModule):
    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        self.train, self.val = Subset(digits(), range(N_TRAIN)), Subset(digits(), range(N_TRAIN, N_TRAIN + N_VAL))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val, batch_size=64)


class DiabetesData(pl.LightningDataModule):
    """Its batch size is a hyperparameter and no attribute."""

    def __init__(self, batch_size: int = 32, num_workers: int = 0):
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        train = Subset(diabetes(), range(N_TRAIN))
        return DataLoader(train, self.hparams["batch_size"], shuffle=True, num_workers=self.hparams["num_workers"])

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Subset(diabetes(), range(N_TRAIN, 192)), 64)


# ---- language ----


class Text(Dataset[Batch]):
    """Pieces of a page of Python's manual, and the same one character on."""

    def __init__(self, block_size: int = 12, n_blocks: int = 64):
        text = topics["for"].lower()
        self.alphabet = sorted(set(text))
        self.data = torch.tensor([self.alphabet.index(character) for character in text])
        self.block_size = block_size
        self.n_blocks = n_blocks

    def __len__(self) -> int:
        return self.n_blocks

    def __getitem__(self, index: int) -> Batch:
        start = index * self.block_size
        return self.data[start : start + self.block_size], self.data[start + 1 : start + self.block_size + 1]


class LightningTransformer(pl.LightningModule):
    """The module beside Lightning's demonstration network, on text that ships."""

    def __init__(self, vocab_size: int = 64) -> None:
        super().__init__()
        self.model = Transformer(vocab_size=vocab_size, ninp=16, nhead=2, nhid=32, nlayers=1)

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        return self.model(inputs, target)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        inputs, target = batch
        return F.nll_loss(self(inputs, target), target.view(-1))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        inputs, target = batch
        self.log("validation/nll", F.nll_loss(self(inputs, target), target.view(-1)), prog_bar=True)

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Text(), batch_size=20)

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Text(n_blocks=16), batch_size=20)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def time_first(examples: Sequence[Batch]) -> tuple[dict[str, Tensor], Tensor]:
    tokens, targets = (torch.stack(column, dim=1) for column in zip(*examples, strict=True))
    return {"tokens": tokens, "reset": torch.tensor(1.0)}, targets


class TextData(pl.LightningDataModule):
    """Batches of time by examples, inputs nested in a dict beside a number without length."""

    def __init__(self, bs: int = 8):
        super().__init__()
        self.bs = bs

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Text(), batch_size=self.bs, shuffle=True, collate_fn=time_first)


class CharacterLSTM(pl.LightningModule):
    """Keeps its state from batch to batch, and clips gradients by itself."""

    def __init__(self, n_hidden: int = 24, lr: float = 1.0):
        super().__init__()
        self.embed = nn.Embedding(64, 16)
        self.lstm = nn.LSTM(16, n_hidden)
        self.out = nn.Linear(n_hidden, 64)
        self.lr = lr
        self.state: tuple[Tensor, Tensor] | None = None

    def training_step(self, batch: tuple[dict[str, Tensor], Tensor], batch_idx: int) -> dict[str, Tensor]:
        inputs, targets = batch
        same = self.state is not None and self.state[0].shape[1] == targets.shape[1]
        hidden, state = self.lstm(self.embed(inputs["tokens"]), self.state if same else None)
        self.state = (state[0].detach(), state[1].detach())
        loss = F.cross_entropy(self.out(hidden).flatten(0, 1), targets.flatten())
        self.log("ppl", loss.exp(), batch_size=targets.shape[1])
        return {"loss": loss, "hidden": hidden.detach()}

    def on_train_epoch_start(self) -> None:
        self.state = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")


# ---- images ----


class ResNetTransfer(pl.LightningModule):
    def __init__(self, num_classes: int = 10, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.resnet = torchvision.models.resnet18(weights=None, num_classes=num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.resnet(x)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


class ColourDigits(pl.LightningDataModule):
    """Digits as colour images of 32 x 32."""

    batch_size = 8

    def prepare_data(self) -> None:
        digits()

    def setup(self, stage: str | None = None) -> None:
        images, labels = digits()[:32]
        self.dataset = TensorDataset(F.interpolate(images, size=32).repeat(1, 3, 1, 1), labels)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.dataset, batch_size=self.batch_size, shuffle=True, drop_last=True)


class LitAutoEncoder(pl.LightningModule):
    """The first example of Lightning's manual, on digits."""

    def __init__(self, encoder: nn.Module | None = None, decoder: nn.Module | None = None):
        super().__init__()
        self.encoder = encoder or nn.Sequential(nn.Linear(8 * 8, 32), nn.ReLU(), nn.Linear(32, 3))
        self.decoder = decoder or nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 8 * 8))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, _ = batch
        x = x.view(x.size(0), -1)
        loss = F.mse_loss(self.decoder(self.encoder(x)), x)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class CNN(pl.LightningModule):
    """Batch norm and dropout."""

    def __init__(self, width: int = 8, p: float = 0.2, learning_rate: float = 0.1):
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nn.Sequential(
            *(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(p)),
            *(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Dropout(p)),
            nn.Linear(16 * width, 10),
        )
        self.n_seen = 0

    def training_step(self, batch: Batch) -> Tensor:
        self.n_seen += len(batch[0])
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss/train", loss)
        return loss

    def validation_step(self, batch: Batch) -> None:
        logits = self.net(batch[0])
        self.log_dict({"loss/val": F.cross_entropy(logits, batch[1]), "acc": (logits.argmax(1) == batch[1]).float().mean()})

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=self.learning_rate)]


class SilentNet(pl.LightningModule):
    """Logs nothing and says nowhere what its learning rate is."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class FineTuned(pl.LightningModule):
    """The backbone learns at a tenth of the head's learning rate."""

    def __init__(self, lr: float = 0.05):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.head(self.backbone(batch[0])), batch[1])
        self.log("train/ce", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [{"params": self.backbone.parameters(), "lr": self.hparams["lr"] * 0.1}, {"params": self.head.parameters()}]
        return torch.optim.SGD(groups, lr=self.hparams["lr"], momentum=0.9)


class LayerRates(FineTuned):
    """The same with numbers in the code."""

    def __init__(self) -> None:
        super().__init__()
        del self.hparams["lr"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [{"params": self.head.parameters()}, {"params": self.backbone.parameters(), "lr": 0.005}]
        return torch.optim.SGD(groups, lr=0.05, momentum=0.9)


class CosineNet(pl.LightningModule):
    """AdamW and a cosine over the steps of the fit."""

    def __init__(self, hidden: int = 32, learning_rate: float = 1e-3, weight_decay: float = 0.01):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.GELU(), nn.Linear(hidden, 10))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1], label_smoothing=0.1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        rate, decay = self.hparams["learning_rate"], self.hparams["weight_decay"]
        optimizer = torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class PlainNet(pl.LightningModule):
    """Keeps all its arguments by ``save_hyperparameters``."""

    def __init__(self, hidden: int = 16, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def small_net() -> PlainNet:
    """A factory, as people write it for a sweep."""
    net = PlainNet(hidden=12)
    nn.init.zeros_(net.net[-1].bias)  # type: ignore[arg-type]
    return net


# ---- other kinds of batches, losses and steps ----


class Patients(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return N_TRAIN

    def __getitem__(self, index: int) -> dict[str, Any]:
        inputs, target = diabetes()[index]
        return {"id": f"patient {index}", "features": inputs.tolist(), "progression": float(target)}


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "ids": [row["id"] for row in rows],
        "features": torch.tensor([row["features"] for row in rows]),
        "progression": torch.tensor([row["progression"] for row in rows]),
    }


class PatientsData(pl.LightningDataModule):
    def __init__(self, train_batch_size: int = 16):
        super().__init__()
        self.train_batch_size = train_batch_size

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(Patients(), self.train_batch_size, shuffle=True, collate_fn=collate)


class DictModel(pl.LightningModule):
    def __init__(self, config: dict[str, Any] | None = None):
        super().__init__()
        self.config = config or {"width": 16}
        self.learning_rate = 0.01
        width = self.config["width"]
        self.mlp = nn.Sequential(nn.Linear(10, width), nn.Tanh(), nn.Linear(width, 1))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = F.mse_loss(self.mlp(batch["features"]).squeeze(-1), batch["progression"])
        self.log("mse", loss, batch_size=len(batch["ids"]))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


class GaussianRegression(pl.LightningModule):
    """Learns mean and spread of something that is almost certain: its loss goes below 0. Hyperparameters come as a dict."""

    def __init__(self, hparams: dict[str, Any]):
        super().__init__()
        self.save_hyperparameters(hparams)
        self.net = nn.Sequential(nn.Linear(10, self.hparams["width"]), nn.Tanh(), nn.Linear(self.hparams["width"], 2))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        mean, spread = self.net(batch[0]).chunk(2, dim=1)
        target = batch[0][:, :1] * 0.1
        return F.gaussian_nll_loss(mean, target, F.softplus(spread) ** 2, eps=1e-4)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98), "interval": "epoch"}]


class GAN(pl.LightningModule):
    """Generator and discriminator take turns; ``training_step`` returns nothing."""

    def __init__(self, latent_dim: int = 4, lr: float = 0.002, b1: float = 0.5, b2: float = 0.999):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(latent_dim, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid())
        self.discriminator = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def training_step(self, batch: Batch) -> None:
        imgs = batch[0].flatten(1)
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[misc]
        z = torch.randn(len(imgs), self.hparams["latent_dim"]).type_as(imgs)
        real, fake = torch.ones(len(imgs), 1), torch.zeros(len(imgs), 1)

        self.toggle_optimizer(optimizer_g)
        g_loss = F.binary_cross_entropy_with_logits(self.discriminator(self.generator(z)), real)
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        optimizer_g.step()
        optimizer_g.zero_grad()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real_loss = F.binary_cross_entropy_with_logits(self.discriminator(imgs), real)
        fake_loss = F.binary_cross_entropy_with_logits(self.discriminator(self.generator(z).detach()), fake)
        d_loss = (real_loss + fake_loss) / 2
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        optimizer_d.step()
        optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)

    def configure_optimizers(self) -> Any:
        lr, betas = self.hparams["lr"], (self.hparams["b1"], self.hparams["b2"])
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=lr, betas=betas)
        opt_d = torch.optim.Adam(self.discriminator.parameters(), lr=lr, betas=betas)
        return [opt_g, opt_d], []


# ---- the same framework by its other name ----


class OtherNet(lightning.pytorch.LightningModule):
    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class OtherData(lightning.pytorch.LightningDataModule):
    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Subset(digits(), range(N_TRAIN)), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Subset(digits(), range(N_TRAIN, N_TRAIN + N_VAL)), batch_size=64)


def loaders() -> Iterator[DataLoader[Any]]:
    """Plain loaders, one for training and one for validation."""
    yield DataLoader(Subset(digits(), range(N_TRAIN)), batch_size=32, shuffle=True)
    yield DataLoader(Subset(digits(), range(N_TRAIN, N_TRAIN + N_VAL)), batch_size=32)


def pretrained() -> PlainNet:
    """A net that has learnt already."""
    torch.manual_seed(7)
    net = PlainNet()
    images, labels = digits()[:N_TRAIN]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(net.net(images), labels).backward()
        optimizer.step()
    return net
