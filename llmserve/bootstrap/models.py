"""The models that this process serves, and what loads them."""

from __future__ import annotations

from llmserve.bootstrap.engines import adapter_folder, build_options
from llmserve.engines.adapters.stored import problem_of
from llmserve.engines.factory import build_engine, bytes_needed
from llmserve.observability.metrics import Metrics
from llmserve.operations.desired import Desired, DesiredModels
from llmserve.registry.adapter_loader import AdapterLoader
from llmserve.registry.catalog import Catalog
from llmserve.registry.load_policy import LoadPolicy
from llmserve.registry.loader import Loader
from llmserve.registry.references import check_settings, names_of
from llmserve.registry.registry import Registry
from llmserve.settings import Settings


def build_catalog(settings: Settings, device: str) -> Catalog:
    """Finds models by name, for this worker's device."""
    return Catalog.from_settings(settings.model_copy(update={"device": device}))


def build_registry(
    settings: Settings, catalog: Catalog, desired: Desired, *, is_checked: bool
) -> Registry:
    """Which models are served.

    `is_checked`: a supervisor has read the manifests before. One that was broken since must not
    keep the other models from a worker that replaces another.

    Raises:
        ConfigurationError: settings name a model that does not exist or is not served, or whose
            manifest is bad.
    """
    wanted = desired.applied_to(settings.models)
    if is_checked:
        specs, broken = catalog.resolve_each(wanted)
    else:
        specs, broken = catalog.resolve_all(wanted), {}
    on_demand = catalog.served_on_demand(settings, specs, are_checked=is_checked)
    # Later a name may mean what an operator unloaded since the start, which was checked.
    if not desired.unloaded and not broken:
        check_settings(settings, names_of((*specs, *on_demand)))
    return Registry(
        specs,
        on_demand=[spec for spec in on_demand if spec.argument not in desired.unloaded],
        pinned=settings.pinned_models,
        default=settings.default_model,
        serves_any_name=settings.any_model_name,
        broken=broken,
    )


def build_loader(
    settings: Settings,
    device: str,
    metrics: Metrics,
    registry: Registry,
    desired: DesiredModels,
) -> Loader:
    """What loads and unloads them."""
    options = build_options(settings, device, metrics, registry, desired)
    return Loader(
        registry,
        lambda spec: build_engine(spec, options),
        policy=LoadPolicy(
            memory_bytes=settings.models_memory_bytes,
            idle_seconds=settings.idle_unload_seconds,
            unload_seconds=settings.unload_timeout_seconds,
        ),
        estimate=lambda spec: bytes_needed(spec, options),
        adapters=AdapterLoader(
            registry,
            lambda spec: adapter_folder(spec, settings),
            inspect=problem_of,
            most=settings.max_adapters,
            unload_seconds=settings.unload_timeout_seconds,
        ),
    )
