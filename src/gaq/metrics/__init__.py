"""What a force field is worth: accuracy, equivariance, conservation. Every metric acts on any `Predictor`."""
