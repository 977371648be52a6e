"""Whether code of one's own works: built, trained and measured for two steps on noise."""

from raygen.config import Study, StudySpec, TrainJob
from raygen.config_file import a_draw
from raygen.errors import InputError
from raygen.image_shape import ImageShape
from raygen.plugins import is_reference, place_of, references
from raygen.search.sampler import check_sampler

CLASSES = 10
SEED = 0


def try_out(job: Study | TrainJob, image: ImageShape | None = None) -> None:
    """Use what a file names of one's own: train a configuration for two steps, measure images.

    On noise of a shape: that of the data, or else what the file says, or 32x32 in colour.

    Raises:
        InputError: it cannot be built, a step or a metric fails, or a sampler of others cannot be
            made.
    """
    spec = job.spec if isinstance(job, Study) else job
    if isinstance(job, Study):
        check_sampler(job)
    image = image or ImageShape(spec.data.channels or 3, spec.data.size or 32)
    _try_metrics(spec, image)
    _try_training(job, image)


def _try_metrics(spec: StudySpec | TrainJob, image: ImageShape) -> None:
    final = spec.final_metrics if isinstance(spec, StudySpec) else ()
    named = [name for name in dict.fromkeys((*spec.metrics, *final)) if is_reference(name)]
    if not named:
        return
    import torch

    from raygen.metrics import METRICS, FeatureEncoder
    from raygen.metrics.own_encoder import check_encoder, encoder_network
    from raygen.metrics.statistic import one_number

    random = torch.Generator().manual_seed(SEED)
    size = (16, *image.chw)
    drawn, real = (torch.randint(256, size, dtype=torch.uint8, generator=random) for _ in range(2))
    for name in named:
        metric = METRICS[name]
        if isinstance(metric.features, FeatureEncoder):
            network = encoder_network(metric.features, torch.device("cpu"))
            check_encoder(metric.features, network, real)
        elif callable(metric.computed_by):
            try:
                one_number(name, metric.computed_by(drawn, real))
            except InputError:
                raise
            except Exception as error:  # whatever the user's own code raises
                raise InputError(f"{name}: {place_of(error)}") from error


def _try_training(job: Study | TrainJob, image: ImageShape) -> None:
    spec = job.spec if isinstance(job, Study) else job
    trial = job.trial(a_draw(job)) if isinstance(job, Study) else job.trial
    named = references(trial.model_dump())
    if not named:
        return
    import torch

    from raygen.data import Split
    from raygen.data.batches import Batches
    from raygen.training.loop import make_learner

    trial = trial.model_copy(update={"batch_size": 4 * trial.accumulate})
    cpu, random = torch.device("cpu"), torch.Generator().manual_seed(SEED)
    pixels = torch.randint(256, (16, *image.chw), dtype=torch.uint8, generator=random)
    split = Split(pixels, torch.arange(16) % CLASSES)
    try:
        budget = 1000 * (spec.budget.kimg if isinstance(spec, StudySpec) else spec.kimg)
        learner = make_learner(trial, CLASSES, cpu, SEED, budget=budget, image=image)
        batches = Batches(split, trial.batch_size, SEED, cpu, trial.flip)
        for step in range(2):
            learner.step(batches, step * learner.images_per_step)
        drawn = learner.sample(torch.randn(3, learner.latent_dim), torch.arange(3))
    except Exception as error:  # whatever the user's own code raises
        called = ""
        if isinstance(error, TypeError) and "forward()" in str(error):
            called = "; a generator is called with (latents, labels), a discriminator with "
            called += "(images, labels)"
        raise InputError(f"{', '.join(named)}: {place_of(error)}{called}") from error
    if drawn.shape != (3, *image.chw):
        raise InputError(
            f"{', '.join(named)}: draws images {tuple(drawn.shape[1:])}, but those of the data are "
            f"{image.chw}"
        )
