#!/usr/bin/env python3
"""Writes the recordings of configs/quickstart from its content.py: same content, same bytes.

  scripts/make_quickstart.py              write events.jsonl, held_out.jsonl, template.jsonl
  scripts/make_quickstart.py --check      write nothing; fail if one of them is not up to date
  scripts/make_quickstart.py --shuffle-corrections SEED --out FILE
                                          events.jsonl with every correction at a wrong question:
                                          the control that a claim of learning has to beat
"""

import argparse
import datetime
import json
import pathlib
import random
import re
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "configs" / "quickstart"
sys.path.insert(0, str(FOLDER))
sys.dont_write_bytecode = True
import content  # noqa: E402

START = datetime.datetime(2025, 3, 3, 9, 0, 0)
SECONDS_APART = 20
# The first questions are asked before the first feedback, so that the base model answers them.
ASKED_FIRST = 12
# A correction comes this many questions after its own, as people take a while to write one.
QUESTIONS_UNTIL_CORRECTED = 2


def dump(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Recording:
    """Lines of events in log order; gives each its id and time."""

    def __init__(self, tenant):
        self.tenant = tenant
        self.lines = []
        self.counts = {}

    def event(self, kind, data, *, department, prefix, user="", tenant=""):
        """One event as a dict, its id and time taken, not yet a line."""
        tenant = tenant or self.tenant
        number = self.counts[tenant, prefix] = self.counts.get((tenant, prefix), 0) + 1
        time = START + datetime.timedelta(seconds=SECONDS_APART * len(self.lines))
        event = {
            "specversion": "1.0",
            "id": f"{prefix}-{number:03}",
            "source": f"/{tenant}/{department}",
            "type": f"nudge.{kind}",
            "time": time.isoformat() + "Z",
            "tenant": tenant,
        }
        if user:
            event["user"] = user
        event["data"] = data
        return event

    def raw(self, line):
        self.lines.append(line)

    def add(self, kind, data, **where):
        event = self.event(kind, data, **where)
        self.raw(dump(event))
        return event["id"]

    def repeat(self, event_id):
        """The line of this id once more, byte for byte."""
        self.raw(next(line for line in self.lines if f'"id":"{event_id}"'.encode() in line))

    def document(self, document_id, title, text, *, tenant=""):
        metadata = {"section": document_id.split("/")[0]}
        data = {"document_id": document_id, "title": title, "text": text, "metadata": metadata}
        self.add("document.upsert", data, department="docs", prefix="doc", tenant=tenant)

    def delete_document(self, document_id):
        self.add("document.delete", {"document_id": document_id}, department="docs", prefix="doc")

    def query(self, text, *, user="", tenant="", **options):
        data = {"text": text, "options": options} if options else {"text": text}
        return self.add("query", data, department="chat", prefix="q", user=user, tenant=tenant)

    def feedback(self, query_id, *, user="", department="chat", **data):
        if department != "chat":
            data = {"query_source": f"/{self.tenant}/chat", **data}
        data = {"query_id": query_id, **data}
        return self.add("feedback", data, department=department, prefix="f", user=user)

    def operate(self, kind, tenant="", **data):
        self.add(kind, data, department="operations", prefix="op", tenant=tenant)

    def malformed(self, name):
        """One line that nudge has to refuse, and go on."""
        query = self.event("query", {"text": "Is this line fine?"}, department="chat", prefix="bad")
        if name == "broken json":
            return self.raw(dump(query)[:-9])
        if name == "invalid utf-8":
            return self.raw(dump(query).replace(b"fine", b"caf\xe9"))
        if name == "wrong type":
            query["data"]["text"] = 42
        elif name == "unknown type":
            query["type"] = "nudge.qeury"
        elif name == "missing tenant":
            del query["tenant"]
        elif name == "unknown key":
            query["data"]["txet"] = "a slip of the pen"
        elif name == "unknown prompt":
            query["data"]["options"] = {"prompt_id": "nowhere"}
        elif name == "rating out of range":
            query["type"] = "nudge.feedback"
            query["data"] = {"query_id": "q-001", "rating": 7}
        elif name == "unknown query":
            query["type"] = "nudge.feedback"
            query["data"] = {"query_id": "q-9999", "rating": "up"}
        elif name == "not an object":
            return self.raw(b'["nudge.query"]')
        elif name == "missing import file":
            query["type"] = "nudge.adapter"
            query["data"] = {"action": "import", "uri": "nowhere.gguf", "sha256": "0" * 64}
        else:
            raise KeyError(name)
        self.raw(dump(query))


MALFORMED = ["broken json", "wrong type", "unknown type", "missing tenant", "invalid utf-8",
             "unknown key", "rating out of range", "unknown prompt", "unknown query"]


def user_of(index):
    return content.USERS[index % len(content.USERS)]


def showcase():
    return [question for _, question, _, shown in content.HELD_OUT if shown]


def wrong_pairs(texts, seed):
    """The texts permuted in one cycle (Sattolo), so that none stays where it was."""
    generator = random.Random(seed)
    texts = list(texts)
    for i in range(len(texts) - 1, 0, -1):
        j = generator.randrange(i)
        texts[i], texts[j] = texts[j], texts[i]
    return texts


class Story:
    """The order of events. `corrected` holds (question, correction)."""

    def __init__(self, documents, corrected, showcase_questions, malformed):
        self.log = Recording(content.TENANT)
        self.documents = documents
        self.corrected = corrected
        self.showcase = showcase_questions
        self.malformed = list(malformed)
        self.query_ids = {}  # index into corrected -> id

    def tell(self):
        self.publish_documents()
        self.ask_the_base_model()
        self.change_documents()
        self.meet_the_neighbour()
        self.dislike()
        self.fend_off_a_prank()
        self.correct_and_ask_on()
        self.try_another_prompt()
        self.answer_while_frozen()
        self.praise()
        for question in self.showcase:
            self.log.query(question, user="grace")
        for name in self.malformed:
            self.log.malformed(name)
        return self.log.lines

    def publish_documents(self):
        for document_id, (title, text) in self.documents.items():
            self.log.document(document_id, title, text)
        self.log.document(*content.NEIGHBOUR_DOCUMENT, tenant=content.NEIGHBOUR)

    def ask(self, index):
        question = self.corrected[index][0]
        self.query_ids[index] = self.log.query(question, user=user_of(index))

    def correct(self, index, **also):
        self.log.feedback(self.query_ids[index], user=user_of(index), **also,
                          correction=self.corrected[index][1])

    def ask_the_base_model(self):
        for question in self.showcase:
            self.log.query(question, user="grace")
        for index in range(min(ASKED_FIRST, len(self.corrected))):
            self.ask(index)

    def change_documents(self):
        """An answer is cached while what it rests on holds, and dies with it. No feedback here."""
        log = self.log
        log.query(content.ASK_HOURS, user="ana")
        log.query(content.ASK_HOURS, user="ben")
        log.query(content.ASK_HOURS_SLOPPILY, user="chloe")
        log.document(content.SHOP_HOURS, content.SHOP_HOURS_TITLE, content.SHOP_HOURS_AFTER)
        self.hours_after = log.query(content.ASK_HOURS, user=content.PRANKSTER)
        log.query(content.ASK_SALE, user="dmitri")
        log.delete_document(content.SPRING_SALE)
        self.sale_after = log.query(content.ASK_SALE, user="dmitri")
        log.delete_document("never/there")
        self.chinese = log.query(content.ASK_CHINESE, user="emeka")
        self.across = log.query(content.ASK_ACROSS, user="emeka")
        log.query(content.ASK_STAFF, user="freja")
        log.operate("forget", document_id=content.STAFF_PHONE)
        self.staff_after = log.query(content.ASK_STAFF, user="freja")

    def meet_the_neighbour(self):
        log, tenant = self.log, content.NEIGHBOUR
        for question, answer in content.NEIGHBOUR_EXAMPLES:
            data = {"query": question, "answer": answer}
            log.add("example", data, department="chat", prefix="ex", tenant=tenant)
        log.query(content.NEIGHBOUR_QUESTION, user="ana", tenant=tenant)
        log.operate("adapter", tenant=tenant, action="reset")

    def dislike(self):
        """Thumbs down alone teach nothing yet: there is no up to hold against them."""
        log = self.log
        log.feedback(self.sale_after, user="dmitri", rating="down")
        log.feedback(self.chinese, user="emeka", rating="down")
        log.feedback(self.across, user="emeka", rating=-0.5, signals={"dwell_ms": 900})
        log.feedback(self.staff_after, user="freja", signals={"regenerated": True})

    def fend_off_a_prank(self):
        """A bad lesson is rolled back, and its author forgotten: the adapter is built anew from the
        lessons of the others, of which there are few so early."""
        log = self.log
        for index in range(3):
            self.correct(index, rating="down")
        log.feedback(self.hours_after, user=content.PRANKSTER, correction=content.PRANK)
        log.operate("adapter", action="rollback")
        log.operate("forget", user=content.PRANKSTER)

    def correct_and_ask_on(self):
        asked = len(self.query_ids)
        for index in range(3, len(self.corrected)):
            if index + QUESTIONS_UNTIL_CORRECTED >= asked and asked < len(self.corrected):
                self.ask(asked)
                asked += 1
            self.correct(index)
            if index % 4 == 3 and self.malformed:
                self.log.malformed(self.malformed.pop(0))
        self.log.repeat(self.query_ids[0])
        self.log.repeat("f-006")

    def try_another_prompt(self):
        log = self.log
        log.operate("prompt.upsert", prompt_id="workshop", system=content.WORKSHOP_SYSTEM,
                    decoding={"temperature": 0.3, "top_p": 0.9, "top_k": 40, "max_tokens": 40})
        answer = log.query(content.CORRECTED[5][1], user="ben", prompt_id="workshop")
        log.operate("prompt.delete", prompt_id="workshop")
        log.feedback(answer, user="ben", department="crm", signals={"clicked": True})

    def answer_while_frozen(self):
        log = self.log
        question = content.CORRECTED[0][1]
        log.operate("adapter", action="freeze")
        answer = log.query(question, user="ana")
        log.feedback(answer, user="ana", rating="up")
        log.query(question, user="ben")
        log.operate("adapter", action="unfreeze")

    def praise(self):
        log = self.log
        first = log.query(content.CORRECTED[1][1], user="chloe")
        second = log.query(content.CORRECTED[4][1], user="dmitri",
                           temperature=0.7, seed=7, max_tokens=24)
        log.feedback(first, user="chloe", rating="up")
        log.feedback(first, user="chloe", signals={"copied": True, "dwell_ms": 8200})
        log.feedback(second, user="dmitri", rating=0.5)
        inline = {"query": content.INLINE_QUERY, "completion": content.INLINE_COMPLETION}
        log.add("feedback", {"inline": inline, "rating": "up"}, department="phone", prefix="f",
                user="freja")


def pairs(shuffle_seed=None):
    corrections = [content.in_house_style(fact) for _, _, fact in content.CORRECTED]
    if shuffle_seed is not None:
        corrections = wrong_pairs(corrections, shuffle_seed)
    return [(row[1], correction) for row, correction in zip(content.CORRECTED, corrections)]


def quickstart(shuffle_seed=None):
    documents = {**content.CORRECTED_DOCUMENTS, **content.HELD_OUT_DOCUMENTS,
                 **content.PASSING_DOCUMENTS, **content.CHINESE_DOCUMENTS}
    return Story(documents, pairs(shuffle_seed), showcase(), MALFORMED).tell()


def template():
    """The same story, shorter, and the rare cases that need no model to be seen."""
    wanted = {row[0] for row in content.CORRECTED[:16]}
    documents = {name: document for name, document in content.CORRECTED_DOCUMENTS.items()
                 if name in wanted}
    documents |= content.PASSING_DOCUMENTS | content.CHINESE_DOCUMENTS
    story = Story(documents, pairs()[:16], showcase()[:2],
                  MALFORMED + ["not an object", "missing import file"])
    lines = story.tell()
    story.log.operate("adapter", action="rollback", version=9999)
    story.log.operate("adapter", action="rollback")
    question = content.CORRECTED[2][1]
    answer = story.log.query(question, user="ana")
    story.log.feedback(answer, user="ana", rating="up")
    story.log.operate("adapter", action="reset")
    story.log.query(question, user="ana")
    return lines


def held_out():
    lines = [dump({"style": {"name": content.STYLE_NAME, "regex": content.STYLE_REGEX}})]
    for _, question, fact, shown in content.HELD_OUT:
        line = {"tenant": content.TENANT, "query": question,
                "answer": content.in_house_style(fact), "fact": fact}
        lines.append(dump(line | {"showcase": True} if shown else line))
    return lines


def check_content():
    """Slips of the pen that would spoil the measurement."""
    rows = [row[:3] for row in content.CORRECTED + content.HELD_OUT]
    documents = content.CORRECTED_DOCUMENTS | content.HELD_OUT_DOCUMENTS
    questions = [question for _, question, _ in rows]
    problems = [f"asked twice: {q}" for q in sorted(set(questions)) if questions.count(q) > 1]
    for document_id, question, fact in rows:
        if fact.lower() not in documents[document_id][1].lower():
            problems.append(f"{document_id} does not say {fact!r}")
        if not re.search(content.STYLE_REGEX, content.in_house_style(fact)):
            problems.append(f"not in house style: {fact!r}")
    problems += [f"held out, but corrected: {document_id}" for document_id, *_ in content.HELD_OUT
                 if document_id in content.CORRECTED_DOCUMENTS]
    problems += [f"corrected, but held out: {document_id}" for document_id, *_ in content.CORRECTED
                 if document_id not in content.CORRECTED_DOCUMENTS]
    if problems:
        sys.exit("content.py: " + "\ncontent.py: ".join(problems))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--shuffle-corrections", type=int, metavar="SEED")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE")
    arguments = parser.parse_args()
    if (arguments.shuffle_corrections is None) != (arguments.out is None):
        parser.error("--shuffle-corrections and --out go together")
    if arguments.check and arguments.out:
        parser.error("--check compares the shipped files; it takes no --out")
    check_content()
    if arguments.out:
        files = {arguments.out: quickstart(arguments.shuffle_corrections)}
    else:
        files = {FOLDER / "events.jsonl": quickstart(), FOLDER / "held_out.jsonl": held_out(),
                 FOLDER / "template.jsonl": template()}
    for path, lines in files.items():
        text = b"".join(line + b"\n" for line in lines)
        if not arguments.check:
            path.write_bytes(text)
        elif not path.exists() or path.read_bytes() != text:
            sys.exit(f"{path.name} is not what content.py makes: run scripts/make_quickstart.py")


if __name__ == "__main__":
    main()
