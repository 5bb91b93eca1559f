"""A network that learns classes by cross-entropy and SGD."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_accuracy

from lightning_modules.sgd import SGDModule


class ImageClassifier(SGDModule):
    """Cross-entropy in nats, mean over the batch; logs ``val_loss`` and ``val_accuracy`` (0 to 1) over all validation examples.

    A batch is (inputs, labels): what ``network`` takes, and int64 of shape (n_examples,). Nothing is logged in training:
    ``self.log`` would add 0.6 ms to every step.

    Args:
        network: maps inputs to logits, shape (n_examples, n_classes).
        learning_rate, momentum, weight_decay, nesterov: as in ``torch.optim.SGD``; see ``SGDModule`` for their limits.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, shape (n_examples, n_classes)."""
        logits: Tensor = self.network(inputs)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean cross-entropy of the batch, a scalar."""
        inputs, labels = batch
        return cross_entropy(self.network(inputs), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log loss and accuracy; each batch counts by its size, so the last, smaller one does not weigh too much."""
        inputs, labels = batch
        logits = self.network(inputs)
        # Argmax first: torchmetrics would take a batch of one class and NaN logits through its slower checks.
        accuracy = multiclass_accuracy(
            logits.argmax(dim=1), labels, num_classes=logits.shape[1], average="micro", validate_args=False
        )
        self.log_dict({"val_loss": cross_entropy(logits, labels), "val_accuracy": accuracy}, batch_size=len(labels))
