"""Train a sparse autoencoder on the tokens of a vision transformer, and save its latents as concepts.

Copy this file, change what is marked CHANGE, run it. Unchanged, it trains on the built-in transformer in about a
minute:

    python train_sae.py
    crp mine demo:vit demo --concept blocks.1=directions:sae.safetensors --out sae.crp
    crp info sae.crp

It is a TopK autoencoder (Gao et al. 2024, "Scaling and evaluating sparse autoencoders"): of each token, the K latents
with the largest coefficients are kept, and their directions add up to the token as nearly as possible.
"""

from pathlib import Path

import torch
from torch import Tensor

from crp.analysis.learned_directions import layer_activations
from crp.concepts import Directions, SparseAutoencoder
from crp.concepts.direction_files import save_directions
from crp.demo import Scenes, demo_model

# CHANGE: the layer, whose output is [N, T, D], and the size of the dictionary.
LAYER = "blocks.1"
LATENTS, K = 192, 6
SAMPLES, STEPS, BATCH, RATE = 1000, 3000, 1024, 2e-3
OUT = Path("sae.safetensors")


def load_model():
    """CHANGE: return a torch module with trained weights."""
    return demo_model("vit")


def load_inputs() -> Tensor:
    """CHANGE: return model inputs `[N, c, H, W]`."""
    scenes = Scenes("train", SAMPLES)
    return torch.stack([scenes[index][0] for index in range(SAMPLES)])


def train(tokens: Tensor, latents: int, k: int, steps: int, seed: int = 0) -> Directions:
    """Train on tokens `[M, D]`; the directions have length 1."""
    generator = torch.Generator().manual_seed(seed)
    shift, scale = tokens.mean(0), tokens.std()
    tokens = (tokens - shift) / scale
    directions = torch.nn.functional.normalize(torch.randn(latents, tokens.shape[1], generator=generator), dim=1)
    weight, bias = directions.T.clone(), torch.zeros(latents)
    trained = [value.requires_grad_() for value in (directions, weight, bias)]
    optimizer = torch.optim.Adam(trained, RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 5 * (1 - step / steps)))
    for step in range(steps):
        batch = tokens[torch.randint(len(tokens), (BATCH,), generator=generator)]
        coefficients = SparseAutoencoder(weight, bias, torch.zeros(tokens.shape[1]), k)(batch, directions)
        loss = (coefficients @ directions - batch).square().mean() / batch.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            directions.copy_(torch.nn.functional.normalize(directions, dim=1))
        if step % 500 == 0 or step == steps - 1:
            print(f"step {step:>5}: {loss.item():.1%} of the tokens' variance is left out")
    directions, weight, bias = (value.detach() for value in trained)
    # In the units of the tokens: coefficients are multiplied by the scale that training divided by.
    return Directions(directions, SparseAutoencoder(weight, bias * scale, shift, k))


def main() -> None:
    """Train, and write the file."""
    torch.manual_seed(0)
    tokens = layer_activations(load_model(), load_inputs(), LAYER, samples=SAMPLES)
    save_directions(train(tokens, LATENTS, K, STEPS), OUT)
    print(f"Directions: {OUT}")


if __name__ == "__main__":
    main()
