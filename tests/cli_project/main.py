"""What trains the module today: ``python main.py fit --config config.yaml``."""

from data import DigitsData
from models import LitNet
from pytorch_lightning.cli import LightningCLI

if __name__ == "__main__":
    LightningCLI(LitNet, DigitsData)
