"""Trainings in training jobs of Amazon SageMaker: `--training.backend sagemaker`."""
