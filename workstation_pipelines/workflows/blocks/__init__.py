"""The registry of block types: the one place that lists them."""

from __future__ import annotations

from collections.abc import Mapping

from workstation_pipelines.workflows.blocks import (
    approval,
    branch,
    delay,
    filter,
    for_each,
    http_request,
    merge,
    output,
    require_fresh,
    save_documents,
    search_documents,
    sync_source,
    transform,
)
from workstation_pipelines.workflows.blocks.contract import BlockType

BLOCKS: Mapping[str, BlockType] = {
    "approval": BlockType(approval.run, approval.ApprovalConfig, "Wait for a person to say yes or no."),
    "branch": BlockType(branch.run, branch.BranchConfig, "Name the first case that is true."),
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
    "merge": BlockType(merge.run, merge.MergeConfig, "Make one value of the outputs that led to it."),
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
