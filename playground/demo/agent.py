"""The AutoGen runtime, in a process of its own with nothing but the environment that `hopgate env` prints.

Reads a JSON object from stdin (work, program, origin, psql, database, host), prints the conversation as NDJSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any


async def converse(order: dict[str, Any]) -> None:
    from autogen_agentchat.agents import AssistantAgent, CodeExecutorAgent
    from autogen_agentchat.base import TaskResult
    from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
    from autogen_agentchat.teams import RoundRobinGroupChat
    from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
    from autogen_ext.models.replay import ReplayChatCompletionClient

    from playground.demo.generated import messages

    # the executor starts this program instead of the runtime's own Python: it becomes another user first
    environment: Any = SimpleNamespace(env_exe=order["program"], bin_path=str(Path(order["program"]).parent)) if order["program"] else None
    async with LocalCommandLineCodeExecutor(work_dir=order["work"], timeout=200, virtual_env_context=environment) as executor:
        writer = AssistantAgent(
            "writer", model_client=ReplayChatCompletionClient(messages(order["origin"], order["psql"], order["database"], order["host"]))
        )
        runner = CodeExecutorAgent("runner", code_executor=executor, sources=["writer"])
        ending = TextMentionTermination("TERMINATE", sources=["writer"]) | MaxMessageTermination(40)
        team = RoundRobinGroupChat([writer, runner], termination_condition=ending)
        async for message in team.run_stream(task="Look after the refunds of the billing API at http://billing.internal."):
            if not isinstance(message, TaskResult):
                print(json.dumps({"source": message.source, "text": message.to_text()}), flush=True)


def main() -> int:
    # no Docker here, and nobody to ask: AutoGen warns of both
    warnings.filterwarnings("ignore", category=UserWarning)
    asyncio.run(converse(json.load(sys.stdin)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
