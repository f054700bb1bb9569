"""The embedded demonstration pair: corpus, training, distillation, evaluation."""
