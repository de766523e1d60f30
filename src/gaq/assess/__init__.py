"""How good a force field is: accuracy, equivariance, conservation."""
