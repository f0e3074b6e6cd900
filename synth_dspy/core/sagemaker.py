"""Facts about Amazon SageMaker that trainings, endpoints and plans share: stock images, prices, names."""

from __future__ import annotations

from collections.abc import Mapping

from synth_dspy.core.errors import SetupError

PREFIX = "sagemaker/"
"""Begins the model string of an endpoint."""
ACCOUNTS: Mapping[str, str] = dict.fromkeys(
    ("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1", "eu-central-1", "eu-north-1",
     "eu-west-1", "eu-west-2", "eu-west-3", "ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1",
     "ap-southeast-2"),
    "763104351884",
)  # fmt: skip
"""AWS's account with the deep-learning containers, by region.

https://docs.aws.amazon.com/sagemaker/latest/dg-ecr-paths/sagemaker-algo-docker-registry-paths.html
"""
TRAINING_IMAGE = "huggingface-pytorch-training:2.9.0-transformers5.3.0-gpu-py312-cu130-ubuntu22.04"
SERVING_IMAGE = "vllm:server-sagemaker-cuda-v1"
"""Serves the chat format. https://aws.github.io/deep-learning-containers/vllm/deployment/sagemaker/"""
PRICES: Mapping[str, float] = {
    "ml.m5.xlarge": 0.23,
    "ml.g4dn.xlarge": 0.736,
    "ml.g5.xlarge": 1.408,
    "ml.g5.2xlarge": 1.515,
    "ml.g5.12xlarge": 7.09,
}
"""On-demand US dollars an hour of an instance, for training and for endpoints alike."""
START_MINUTES = 10.0
"""Billed minutes of a training job beside its training: the image, the package, the weights; an estimate."""
PRICES_AS_OF = "us-east-1, 2025"


def image_address(image: str | None, stock: str, region: str, setting: str) -> str:
    """The address of an image in a region's registry.

    Args:
        image: as set; None: AWS's.
        stock: the name and tag of AWS's.
        region: where it is pulled.
        setting: its name in messages.

    Raises:
        SetupError: the region's registry is unknown here.
    """
    if image is not None:
        return image
    if region not in ACCOUNTS:
        raise SetupError(
            f"The account of AWS's deep-learning containers in {region} is not known here: set {setting} to the "
            f'address of {stock} there (AWS\'s list of "Docker registry paths" has it).'
        )
    return f"{ACCOUNTS[region]}.dkr.ecr.{region}.amazonaws.com/{stock}"


def hourly_price(instance: str, price: float | None) -> tuple[float | None, str]:
    """US dollars an hour of an instance, None if unknown, and where the figure is from."""
    if price is not None:
        return price, "as set"
    return PRICES.get(instance), f"list price, {PRICES_AS_OF}"
