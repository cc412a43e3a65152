from __future__ import annotations

from itertools import product

import pytest

from portway_proxy.l7.exchange import Event, State
from worker_parts import Parts

# Rows: what was so far. Columns: what happens. Empty: must not happen.
TABLE = """
            HEAD_SENT  REQUEST_SENT  REQUEST_END  RESPONSE_HEAD  UPGRADED  ATTEMPT_FAILED
PENDING     SENDING    WAITING       .            .              .         PENDING
SENDING     .          .             WAITING      EARLY          .         PENDING
WAITING     .          .             .            RESPONDING     TUNNEL    PENDING
EARLY       .          .             RESPONDING   .              .         .
RESPONDING  .          .             .            .              .         .
TUNNEL      .          .             .            .              .         .
DONE        .          .             .            .              .         .
"""


def expected() -> dict[tuple[State, Event], State | None]:
    columns, *rows = TABLE.strip().splitlines()
    events = [Event[name] for name in columns.split()]
    table: dict[tuple[State, Event], State | None] = {}
    for row in rows:
        state, *cells = row.split()
        for event, cell in zip(events, cells, strict=True):
            table[State[state], event] = None if cell == "." else State[cell]
    return table


def test_the_table_names_every_state_and_every_event() -> None:
    assert set(expected()) == set(product(State, Event))


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=lambda part: part.name)
async def test_an_event_leads_where_the_table_says_or_must_not_happen(state: State, event: Event) -> None:
    exchange = Parts().exchange()
    exchange.state = state
    target = expected()[state, event]
    if target is None:
        with pytest.raises(KeyError):
            exchange.on(event)
        assert exchange.state is state
    else:
        assert exchange.on(event) is target
        assert exchange.state is target


async def test_an_exchange_begins_with_nothing_sent_and_nothing_counted() -> None:
    exchange = Parts().exchange(started=7.0)
    assert (exchange.state, exchange.started, exchange.status, exchange.reason) == (State.PENDING, 7.0, 0, "")
    assert (exchange.request_size, exchange.response_size, exchange.tried) == (0, 0, ())
    assert (exchange.upstream, exchange.pool, exchange.connection, exchange.response) == (None, None, None, None)
