"""Fast forward and backward passes behind the layers."""
