#include "connectors/http/html_text.h"

#include <lexbor/dom/dom.h>
#include <lexbor/html/html.h>

#include <algorithm>
#include <array>
#include <memory>

namespace nudge {
namespace {

// Small enough for the bounds to be looked at before a tree runs away: an end of a paragraph, four
// bytes, may open kNestedMost elements again.
constexpr size_t kPieceBytes = 256;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

struct EndParser {
  void operator()(lxb_html_parser_t* parser) const { lxb_html_parser_destroy(parser); }
};
struct EndDocument {
  void operator()(lxb_html_document_t* document) const { lxb_html_document_destroy(document); }
};
using Document = std::unique_ptr<lxb_html_document_t, EndDocument>;

size_t BytesOf(const lexbor_mraw_t* memory) {
  size_t bytes = 0;
  for (const lexbor_mem_chunk_t* chunk = memory->mem->chunk_first; chunk != nullptr;
       chunk = chunk->next) {
    bytes += chunk->size;
  }
  return bytes;
}

Result<Document> Parse(std::string_view html) {
  const Error no_memory{Code::kInternal, "lexbor found no memory for the page",
                        "send it again later"};
  const std::unique_ptr<lxb_html_parser_t, EndParser> parser(lxb_html_parser_create());
  if (!parser || lxb_html_parser_init(parser.get()) != LXB_STATUS_OK) return no_memory;
  lxb_html_parser_scripting_set(parser.get(), true);  // what <noscript> has is not shown then
  Document document(lxb_html_parse_chunk_begin(parser.get()));
  if (!document) return no_memory;
  if (html.starts_with(kByteOrderMark)) html.remove_prefix(kByteOrderMark.size());
  for (; !html.empty(); html.remove_prefix(std::min(kPieceBytes, html.size()))) {
    const std::string_view piece = html.substr(0, kPieceBytes);
    const auto status = lxb_html_parse_chunk_process(
        parser.get(), reinterpret_cast<const lxb_char_t*>(piece.data()), piece.size());
    if (status != LXB_STATUS_OK) return no_memory;
    if (lexbor_array_length(parser->tree->open_elements) > kNestedMost) {
      return Error{Code::kTooLarge,
                   "the page nests more than " + std::to_string(kNestedMost) + " elements",
                   "take the text out, and send it as text/plain or text/markdown"};
    }
    const auto& dom = document->dom_document;
    if (BytesOf(dom.mraw) + BytesOf(dom.text) > kTreeBytesMax) {
      return Error{Code::kTooLarge,
                   "the page's tree is larger than " + std::to_string(kTreeBytesMax >> 20) + " MiB",
                   "take the text out, and send it as text/plain or text/markdown"};
    }
  }
  if (lxb_html_parse_chunk_end(parser.get()) != LXB_STATUS_OK) return no_memory;
  return document;
}

std::string_view Attribute(lxb_dom_node_t* node, std::string_view name) {
  size_t length = 0;
  const lxb_char_t* const value = lxb_dom_element_get_attribute(
      lxb_dom_interface_element(node), reinterpret_cast<const lxb_char_t*>(name.data()),
      name.size(), &length);
  if (value == nullptr) return {};
  return {reinterpret_cast<const char*>(value), length};
}

bool HasAttribute(lxb_dom_node_t* node, std::string_view name) {
  return lxb_dom_element_has_attribute(lxb_dom_interface_element(node),
                                       reinterpret_cast<const lxb_char_t*>(name.data()),
                                       name.size());
}

bool IsSpace(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

bool IsHidden(lxb_dom_node_t* node) {
  if (HasAttribute(node, "hidden") || Attribute(node, "aria-hidden") == "true") return true;
  std::string style;
  for (const char c : Attribute(node, "style")) {
    if (!IsSpace(c)) style += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return style.find("display:none") != std::string::npos ||
         style.find("visibility:hidden") != std::string::npos;
}

template <size_t kCount>
bool IsIn(lxb_tag_id_t tag, const std::array<lxb_tag_id_enum_t, kCount>& tags) {
  return std::ranges::find(tags, tag) != tags.end();
}

// Nothing of it is shown as text.
bool IsLeftOut(lxb_dom_node_t* node) {
  constexpr std::array kTags = {LXB_TAG_SCRIPT,  LXB_TAG_STYLE,  LXB_TAG_NOSCRIPT, LXB_TAG_TEMPLATE,
                                LXB_TAG_HEAD,    LXB_TAG_IFRAME, LXB_TAG_OBJECT,   LXB_TAG_EMBED,
                                LXB_TAG_CANVAS,  LXB_TAG_SVG,    LXB_TAG_AUDIO,    LXB_TAG_VIDEO,
                                LXB_TAG_DATALIST};
  return IsIn(node->local_name, kTags) || IsHidden(node);
}

bool BeginsLine(lxb_tag_id_t tag) {
  constexpr std::array kTags = {LXB_TAG_LI,     LXB_TAG_TR,     LXB_TAG_DIV,     LXB_TAG_DT,
                                LXB_TAG_DD,     LXB_TAG_OPTION, LXB_TAG_CAPTION, LXB_TAG_FIGCAPTION,
                                LXB_TAG_LEGEND, LXB_TAG_SUMMARY};
  return IsIn(tag, kTags);
}

bool IsHeading(lxb_tag_id_t tag) {
  return tag >= LXB_TAG_H1 && tag <= LXB_TAG_H6;
}

bool BeginsParagraph(lxb_tag_id_t tag) {
  constexpr std::array kTags = {
      LXB_TAG_P,       LXB_TAG_PRE,    LXB_TAG_BLOCKQUOTE, LXB_TAG_TABLE,  LXB_TAG_UL,
      LXB_TAG_OL,      LXB_TAG_DL,     LXB_TAG_SECTION,    LXB_TAG_MAIN,   LXB_TAG_ARTICLE,
      LXB_TAG_ASIDE,   LXB_TAG_HEADER, LXB_TAG_FOOTER,     LXB_TAG_NAV,    LXB_TAG_FIGURE,
      LXB_TAG_ADDRESS, LXB_TAG_FORM,   LXB_TAG_FIELDSET,   LXB_TAG_DETAILS};
  return IsIn(tag, kTags) || IsHeading(tag);
}

// Puts text behind text with the white space that is between them.
class Writer {
 public:
  void BreakLine() { Break(1); }
  void BreakParagraph() { Break(2); }

  // What begins an item or a heading, or stands between cells: it has its own blanks.
  void Mark(std::string_view mark) {
    space_ = false;
    Settle();
    text_ += mark;
  }
  void Text(std::string_view words) {
    for (const char c : words) {
      if (IsSpace(c)) {
        space_ = true;
      } else {
        Settle();
        text_ += c;
      }
    }
  }
  void Preformatted(std::string_view words) {
    if (words.empty()) return;
    Settle();
    text_ += words;
  }
  std::string Take() {
    while (!text_.empty() && IsSpace(text_.back())) text_.pop_back();
    return std::move(text_);
  }

 private:
  void Break(int lines) {
    lines_ = std::max(lines_, lines);
    space_ = false;
  }
  void Settle() {
    if (lines_ > 0) {
      while (!text_.empty() && text_.back() == ' ') text_.pop_back();
      if (!text_.empty()) text_.append(static_cast<size_t>(lines_), '\n');
    } else if (space_ && !text_.empty() && !IsSpace(text_.back())) {
      text_ += ' ';
    }
    lines_ = 0;
    space_ = false;
  }

  std::string text_;
  int lines_ = 0;  // to end before what comes next
  bool space_ = false;
};

std::string_view TextOf(lxb_dom_node_t* node) {
  const lexbor_str_t& data = lxb_dom_interface_character_data(node)->data;
  return {reinterpret_cast<const char*>(data.data), data.length};
}

// Walks the tree without recursion: a page may nest deeply.
class Reader {
 public:
  std::string Read(lxb_dom_node_t* root) {
    lxb_dom_node_t* node = root->first_child;
    while (node != nullptr) {
      if (Enter(node) && node->first_child != nullptr) {
        node = node->first_child;
        continue;
      }
      Leave(node);
      while (node->next == nullptr && node->parent != root) {
        node = node->parent;
        Leave(node);
      }
      node = node->next;
    }
    return writer_.Take();
  }

 private:
  // Whether what is in it is shown, too.
  bool Enter(lxb_dom_node_t* node) {
    if (node->type == LXB_DOM_NODE_TYPE_TEXT) {
      preformatted_ > 0 ? writer_.Preformatted(TextOf(node)) : writer_.Text(TextOf(node));
      return false;
    }
    if (node->type != LXB_DOM_NODE_TYPE_ELEMENT) return false;
    const lxb_tag_id_t tag = node->local_name;
    if (IsLeftOut(node)) return false;
    Begin(tag);
    if (tag == LXB_TAG_BR) writer_.BreakLine();
    if (tag == LXB_TAG_HR) writer_.BreakParagraph();
    if (tag == LXB_TAG_IMG && !Attribute(node, "alt").empty()) {
      writer_.Text(" ");
      writer_.Text(Attribute(node, "alt"));
      writer_.Text(" ");
    }
    if (IsHeading(tag)) writer_.Mark(std::string(tag - LXB_TAG_H1 + 1, '#') + " ");
    if (tag == LXB_TAG_LI) writer_.Mark("- ");
    if (tag == LXB_TAG_TD || tag == LXB_TAG_TH) {
      if (node->prev != nullptr && HasCellBefore(node)) writer_.Mark(" | ");
    }
    if (tag == LXB_TAG_PRE || tag == LXB_TAG_TEXTAREA) ++preformatted_;
    return true;
  }

  void Leave(lxb_dom_node_t* node) {
    if (node->type != LXB_DOM_NODE_TYPE_ELEMENT || IsLeftOut(node)) return;
    if (node->local_name == LXB_TAG_PRE || node->local_name == LXB_TAG_TEXTAREA) --preformatted_;
    Begin(node->local_name);
  }

  // The end of a block is the beginning of the next.
  void Begin(lxb_tag_id_t tag) {
    if (BeginsParagraph(tag)) writer_.BreakParagraph();
    if (BeginsLine(tag)) writer_.BreakLine();
  }

  static bool HasCellBefore(const lxb_dom_node_t* node) {
    for (node = node->prev; node != nullptr; node = node->prev) {
      if (node->local_name == LXB_TAG_TD || node->local_name == LXB_TAG_TH) return true;
    }
    return false;
  }

  Writer writer_;
  int preformatted_ = 0;
};

std::string TitleOf(lxb_html_document_t* document) {
  size_t length = 0;
  const lxb_char_t* const title = lxb_html_document_title(document, &length);
  if (title == nullptr) return "";
  Writer writer;
  writer.Text({reinterpret_cast<const char*>(title), length});
  return writer.Take();
}

}  // namespace

Result<HtmlText> TextOfHtml(std::string_view html) {
  Result<Document> document = Parse(html);
  if (!document.ok()) return document.error();
  HtmlText page;
  page.title = TitleOf(document->get());
  page.text = Reader().Read(lxb_dom_interface_node(document->get()));
  return page;
}

}  // namespace nudge
