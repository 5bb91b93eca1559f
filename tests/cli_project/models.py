"""A module as people write it: nothing in it knows of learning-rate studies."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from studies.blocks import block
from torch import nn
from torchmetrics.classification import MulticlassAccuracy


class LitNet(pl.LightningModule):
    def __init__(self, width: int = 32, dropout: float = 0.1, lr: float = 1e-3, momentum: float = 0.9):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(block(64, width, dropout), nn.Linear(width, 10))
        self.acc = MulticlassAccuracy(10)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        out = self(x)
        self.acc(out, y)
        self.log("valid/loss", F.cross_entropy(out, y))
        self.log("valid/acc", self.acc)

    def configure_optimizers(self):
        opt = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=self.hparams.momentum)
        return {"optimizer": opt, "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(opt, self.trainer.max_epochs)}
