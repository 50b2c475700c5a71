"""Who plays: rollouts, the recorder, renderers, engines and evaluation."""
