"""The types of rules: what each is for, its settings, an example, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workstation_pipelines.text.rules import boilerplate, configs, expressions, mail, markup, patterns, templates
from workstation_pipelines.text.rules.draft import Draft
from workstation_pipelines.text.rules.edits import Edit
from workstation_pipelines.text.rules.redacting import redact

MOST_TITLE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class RuleType:
    """`apply` takes the settings, the rule's name and a draft. Applying an idempotent one twice is applying it once."""

    config: type[configs.RuleConfig]
    summary: str
    example: Mapping[str, Any]
    apply: Callable[[Any, str, Draft], Draft]
    is_idempotent: bool = False


def _regex_replace(config: configs.RegexReplace, rule: str, draft: Draft) -> Draft:
    compiled = patterns.compiled(config.pattern, ignore_case=config.ignore_case, dot_all=config.dot_all)
    return draft.with_edits(patterns.replacements(compiled, config.replacement, draft.text, rule))


def _remove_boilerplate(config: configs.RemoveBoilerplate, rule: str, draft: Draft) -> Draft:
    def spans() -> Iterator[tuple[int, int]]:
        if config.repeated_lines:
            yield from boilerplate.repeated_lines(draft.text, repeats=config.repeats)
        if config.notices:
            yield from boilerplate.notices(draft.text)

    return draft.without(spans())


def _remove_signature(config: configs.RemoveSignature, rule: str, draft: Draft) -> Draft:
    return draft.without(mail.signatures(draft.text, draft.headings))


def _remove_quoted_mail(config: configs.RemoveQuotedMail, rule: str, draft: Draft) -> Draft:
    return draft.without(mail.quotations(draft.text, draft.headings))


def _map_fields(config: configs.MapFields, rule: str, draft: Draft) -> Draft:
    def text_at(expression: str | None) -> str | None:
        found = expressions.search(expression, draft.metadata, rule) if expression is not None else None
        return " ".join(str(found).split()) or None if isinstance(found, str | int | float) else None

    found = expressions.search(config.tags, draft.metadata, rule) if config.tags is not None else None
    named = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    tags = (" ".join(tag.split())[:100] for tag in named if isinstance(tag, str))
    language = text_at(config.language)
    return replace(
        draft,
        title=(text_at(config.title) or draft.title)[:MOST_TITLE_CHARACTERS],
        url=text_at(config.url) or draft.url,
        language=language if language is not None and len(language) == 2 else draft.language,
        project=(text_at(config.project) or draft.project or "")[:200] or None,
        tags=_with(draft.tags, [tag for tag in tags if tag][: configs.MOST_TAGS]),
    )


def _filter(config: configs.Filter, rule: str, draft: Draft) -> Draft:
    """Decided before the first rule, from metadata alone."""
    return draft


def _set_title(config: configs.SetTitle, rule: str, draft: Draft) -> Draft:
    if not _holds(config.when, rule, draft):
        return draft
    title = templates.filled(config.template, draft.metadata, draft.title)
    return replace(draft, title=title[:MOST_TITLE_CHARACTERS] or draft.title)


def _assign_project(config: configs.AssignProject, rule: str, draft: Draft) -> Draft:
    return replace(draft, project=config.project.strip()) if _holds(config.when, rule, draft) else draft


def _add_tags(config: configs.AddTags, rule: str, draft: Draft) -> Draft:
    if not _holds(config.when, rule, draft):
        return draft
    return replace(draft, tags=_with(draft.tags, [tag.strip() for tag in config.tags]))


def _language_filter(config: configs.LanguageFilter, rule: str, draft: Draft) -> Draft:
    if draft.language is None:
        is_kept = config.unknown is configs.Mode.INCLUDE
    else:
        is_kept = (draft.language in config.languages) is (config.mode is configs.Mode.INCLUDE)
    return draft if is_kept else replace(draft, dropped_by=rule)


def _strip_html(config: configs.StripHtml, rule: str, draft: Draft) -> Draft:
    return draft.with_edits(markup.markup(draft.text))


def _truncate(config: configs.Truncate, rule: str, draft: Draft) -> Draft:
    if len(draft.text) <= config.max_characters:
        return draft
    # At the end of a line or word, if one is near: a word cut in two is found by nobody.
    lowest = config.max_characters - min(config.max_characters // 5, 200)
    cut = max(draft.text.rfind(gap, lowest, config.max_characters + 1) for gap in ("\n", " "))
    cut = cut if cut > 0 else config.max_characters
    cut = len(draft.text[:cut].rstrip()) or cut
    return draft.with_edits([Edit(cut, len(draft.text))])


def _holds(when: str | None, rule: str, draft: Draft) -> bool:
    return when is None or expressions.is_true(when, draft.metadata, rule)


def _with(tags: tuple[str, ...], more: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*tags, *more)))


TYPES: Mapping[str, RuleType] = {
    "regex_replace": RuleType(
        configs.RegexReplace,
        "Replace what a pattern matches (Python's syntax, ^ and $ at every line). \\1 and \\g<name> stand for groups.",
        {"pattern": "(?i)confidential:? *", "replacement": ""},
        _regex_replace,
    ),
    "remove_boilerplate": RuleType(
        configs.RemoveBoilerplate,
        "Remove lines that stand on every page (all but the first), page numbers, cookie notices and ways to unsubscribe.",
        {"repeats": 4},
        _remove_boilerplate,
    ),
    "remove_signature": RuleType(
        configs.RemoveSignature,
        "Remove what follows a line of `--` in a mail, and `Sent from my ...`.",
        {},
        _remove_signature,
        is_idempotent=True,
    ),
    "remove_quoted_mail": RuleType(
        configs.RemoveQuotedMail,
        "Remove lines quoted with `>`, the line that introduces them, and the mail below `Original Message`.",
        {},
        _remove_quoted_mail,
    ),
    "redact": RuleType(
        configs.Redact,
        "Replace e-mail addresses, phone numbers, cards, IBANs and what `patterns` match; the original is not kept.",
        {"kinds": ["email", "phone", "card", "iban"], "regions": ["DE"], "patterns": ["PRJ-\\d{4}"]},
        redact,
        is_idempotent=True,
    ),
    "map_fields": RuleType(
        configs.MapFields,
        "Fill title, url, language, project or tags with JMESPath expressions over the item's metadata.",
        {"title": "join(' - ', [folder, name])", "tags": "[source_name]"},
        _map_fields,
        is_idempotent=True,
    ),
    "filter": RuleType(
        configs.Filter,
        "Take only the items, or leave out those, that a JMESPath expression selects; nothing is downloaded for it.",
        {"mode": "exclude", "expression": "starts_with(path, 'Private/') || size_bytes > `10000000`"},
        _filter,
        is_idempotent=True,
    ),
    "set_title": RuleType(
        configs.SetTitle,
        "Make the title from a template; {title} is the one so far.",
        {"template": "{source_name}: {title}", "when": "item_type == 'email'"},
        _set_title,
    ),
    "assign_project": RuleType(
        configs.AssignProject,
        "Put documents into a project, unless their owner chose one.",
        {"project": "Tax", "when": "contains(path, 'invoices')"},
        _assign_project,
        is_idempotent=True,
    ),
    "add_tags": RuleType(
        configs.AddTags,
        "Put tags on documents; those of their owner stay.",
        {"tags": ["mail", "2026"], "when": "modified_at >= '2026'"},
        _add_tags,
        is_idempotent=True,
    ),
    "language_filter": RuleType(
        configs.LanguageFilter,
        "Take only documents in these languages (ISO 639-1), or leave them out.",
        {"mode": "include", "languages": ["en", "de"], "unknown": "include"},
        _language_filter,
        is_idempotent=True,
    ),
    "strip_html": RuleType(
        configs.StripHtml,
        "Remove HTML tags, scripts and comments from a text that holds them, and read its character references.",
        {},
        _strip_html,
    ),
    "truncate": RuleType(
        configs.Truncate,
        "Keep the beginning of a long text.",
        {"max_characters": 20000},
        _truncate,
        is_idempotent=True,
    ),
}
"""By name, in the order in which they are listed."""
