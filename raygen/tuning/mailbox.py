"""Messages between a group of DDP workers and the driver of their trials."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Event = dict[str, Any]
Order = dict[str, Any]


@ray.remote(num_cpus=0)
class _Exchange:
    """Events go to the driver, once each; every worker reads all orders, in the same order."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.told = asyncio.Event()
        self.orders: list[Order] = []
        self.news = asyncio.Condition()
        self.cancelled = False

    async def tell(self, event: Event) -> bool:
        """Take an event; return whether the trial must end."""
        self.events.append(event)
        self.told.set()
        return self.cancelled

    async def hear(self, timeout: float) -> Event | None:
        """Return the next event, or None after `timeout` seconds."""
        if not self.events:
            self.told.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.told.wait(), timeout)
        return self.events.popleft() if self.events else None

    async def order(self, order: Order, cancel: bool) -> None:
        """Give an order; with `cancel` the running trial ends at its next pulse."""
        self.cancelled = cancel
        async with self.news:
            self.orders.append(order)
            self.news.notify_all()

    async def follow(self, index: int) -> Order:
        """Return the order number `index`, as soon as it is given."""
        async with self.news:
            await self.news.wait_for(lambda: len(self.orders) > index)
        return self.orders[index]


class Mailbox:
    """A handle: plain calls for both sides."""

    def __init__(self) -> None:
        # Beside the driver: if that node is lost, so is the driver, and nobody waits for an order.
        here = ray.get_runtime_context().get_node_id()
        on_this_node = NodeAffinitySchedulingStrategy(here, soft=False)
        self.actor: Any = _Exchange.options(scheduling_strategy=on_this_node).remote()  # pyright: ignore[reportAttributeAccessIssue]

    def tell(self, event: Event) -> bool:
        """Worker -> driver; returns whether the trial must end."""
        return ray.get(self.actor.tell.remote(event))

    def hear(self, timeout: float) -> Event | None:
        """Return the next event for the driver, or None after `timeout` seconds."""
        return ray.get(self.actor.hear.remote(timeout))

    def order(self, order: Order, cancel: bool = False) -> None:
        """Driver -> every worker."""
        ray.get(self.actor.order.remote(order, cancel))

    def follow(self, index: int) -> Order:
        """Wait for order number `index`, counted from 0."""
        return ray.get(self.actor.follow.remote(index))

    def shut(self) -> None:
        """End the actor."""
        ray.kill(self.actor)
