"""Losses: GAN objectives and penalties, and the parts of the ELBO."""
