"""Run a model without a trace: inputs, stand-ins, isolation, copies."""
