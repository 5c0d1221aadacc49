"""The registry of block types: the one place that lists them."""

from __future__ import annotations

from collections.abc import Mapping

from workstation_pipelines.workflows.blocks import (
    apify_actor,
    apollo_enrich,
    approval,
    branch,
    composio_tool,
    delay,
    filter,
    for_each,
    http_request,
    llm,
    merge,
    notify_webhook,
    output,
    require_fresh,
    save_documents,
    search_documents,
    sync_source,
    transform,
)
from workstation_pipelines.workflows.blocks.contract import BlockType

BLOCKS: Mapping[str, BlockType] = {
    "apify_actor": BlockType(
        apify_actor.run,
        apify_actor.ApifyActorConfig,
        "Run an actor at Apify and take the items that it stored.",
        calls="Apify",
    ),
    "apollo_enrich": BlockType(
        apollo_enrich.run,
        apollo_enrich.ApolloEnrichConfig,
        "Ask Apollo about a person, up to ten people, or a company.",
        calls="Apollo",
    ),
    "approval": BlockType(approval.run, approval.ApprovalConfig, "Wait for a person to say yes or no."),
    "branch": BlockType(branch.run, branch.BranchConfig, "Name the first case that is true."),
    "composio_tool": BlockType(
        composio_tool.run,
        composio_tool.ComposioToolConfig,
        "Run a tool of Composio's with an account that it keeps.",
        calls="Composio, and through it the vendor of the tool",
    ),
    "delay": BlockType(delay.run, delay.DelayConfig, "Let time pass."),
    "filter": BlockType(filter.run, filter.FilterConfig, "Keep those items for which an expression is true."),
    "for_each": BlockType(
        for_each.run,
        for_each.ForEachConfig,
        "Run another block for each item of a list.",
        default_timeout_s=3600.0,
        lazy_fields=frozenset({"block"}),
    ),
    "http_request": BlockType(
        http_request.run,
        http_request.HttpRequestConfig,
        "Ask any public address over HTTP.",
        calls="the address in its config",
    ),
    "llm": BlockType(
        llm.run,
        llm.LlmConfig,
        "Ask a chat model, for text or for JSON.",
        calls="the chat endpoint that the operator has set, or the one in its config",
    ),
    "merge": BlockType(merge.run, merge.MergeConfig, "Make one value of the outputs that led to it."),
    "notify_webhook": BlockType(
        notify_webhook.run,
        notify_webhook.NotifyWebhookConfig,
        "Tell a webhook of yours, or a URL, signed.",
        calls="the receiver in its config",
    ),
    "output": BlockType(output.run, output.OutputConfig, "Say what the execution as a whole gives."),
    "require_fresh": BlockType(
        require_fresh.run, require_fresh.RequireFreshConfig, "Have those data sources synced that were not lately."
    ),
    "save_documents": BlockType(
        save_documents.run, save_documents.SaveDocumentsConfig, "Store texts as documents.", default_timeout_s=900.0
    ),
    "search_documents": BlockType(
        search_documents.run, search_documents.SearchDocumentsConfig, "Find passages by their words and their meaning."
    ),
    "sync_source": BlockType(
        sync_source.run, sync_source.SyncSourceConfig, "Bring a data source up to date, and wait for it."
    ),
    "transform": BlockType(transform.run, transform.TransformConfig, "Make a value out of others by expressions."),
}
