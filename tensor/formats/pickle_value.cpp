// What is done with a pickle's values once they are there: checks, accessors, text.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "kernels/error.h"
#include "tensor/formats/pickle.h"
#include "tensor/formats/utf8.h"

namespace mc {
namespace {

constexpr size_t kMaxKey = 4096;              // bytes of one dict key, written out
constexpr size_t kMaxKeys = size_t{1} << 30;  // of all of them
constexpr int kMaxKeyDepth = 8;               // tuples in tuples
constexpr int kOpen = -1;                     // depth of a value whose elements are visited

// A key as text that equal keys share and others do not; "" if it cannot be a key.
std::string key_text(const PyNode& key, int depth = 0) {
    switch (key.kind) {
        case PyKind::none:
            return "n";
        case PyKind::boolean:
        case PyKind::integer:
            return fmt::format("i{};", key.number);
        case PyKind::real:
            return fmt::format("r{};", key.real);
        case PyKind::big_integer:
        case PyKind::text:
        case PyKind::bytes:
            if (key.text.size() > kMaxKey) return "";
            return fmt::format("t{}:{}:{}", static_cast<int>(key.kind), key.text.size(), key.text);
        case PyKind::global:
            return fmt::format("g{};", key.type);
        case PyKind::tuple: {
            if (depth == kMaxKeyDepth) return "";
            std::string text = "(";
            for (const PyNode* item : key.items) {
                const std::string part = key_text(*item, depth + 1);
                if (part.empty() || text.size() + part.size() > kMaxKey) return "";
                text += part;
            }
            return text + ")";
        }
        default:
            return "";
    }
}

std::string real_text(double value) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    std::string text = fmt::format("{}", value);
    if (text.find_first_of(".en") == text.npos) text += ".0";
    return text;
}

// Decimal of little-endian two's complement, by repeated division.
std::string decimal_text(std::string_view raw) {
    std::vector<uint8_t> bytes(raw.begin(), raw.end());
    const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
    if (negative) {
        bool carry = true;
        for (uint8_t& b : bytes) {
            b = static_cast<uint8_t>(~b + (carry ? 1 : 0));
            carry = carry && b == 0;
        }
    }
    std::string digits;
    while (!bytes.empty()) {
        unsigned rest = 0;
        for (size_t i = bytes.size(); i-- > 0;) {
            const unsigned value = rest << 8 | bytes[i];
            bytes[i] = static_cast<uint8_t>(value / 10);
            rest = value % 10;
        }
        digits += static_cast<char>('0' + rest);
        while (!bytes.empty() && bytes.back() == 0) bytes.pop_back();
    }
    if (digits.empty()) digits = "0";
    if (negative) digits += '-';
    std::reverse(digits.begin(), digits.end());
    return digits;
}

// Appends Python's notation of a value until the text is long enough.
class ReprWriter {
  public:
    explicit ReprWriter(size_t limit) : limit_(limit) {}

    std::string write(const PyNode& node) {
        value(node, 0);
        if (text_.size() > limit_) {
            size_t end = limit_;
            while (end > 0 && (static_cast<uint8_t>(text_[end]) & 0xc0) == 0x80) --end;
            text_.resize(end);
            text_ += "...";
        }
        return text_;
    }

  private:
    bool full() const { return text_.size() > limit_; }

    void quoted(std::string_view text) {
        text_ += '\'';
        for (char c : text.substr(0, limit_ + 1)) {
            const auto code = static_cast<uint8_t>(c);
            if (code < 0x20 || code == 0x7f)
                text_ += fmt::format("\\x{:02x}", code);
            else if (c == '\'' || c == '\\')
                text_ += {'\\', c};
            else
                text_ += c;
        }
        text_ += '\'';
    }

    void elements(const PyNode& node, std::string_view open, std::string_view close, int depth) {
        text_ += open;
        for (size_t i = 0; i < node.items.size() && !full(); ++i) {
            const bool is_value = node.kind == PyKind::dict && i % 2 == 1;
            if (i > 0) text_ += is_value ? ": " : ", ";
            value(*node.items[i], depth + 1);
        }
        if (node.kind == PyKind::tuple && node.items.size() == 1) text_ += ',';
        text_ += close;
    }

    // Nesting is bounded by the text: every level writes a character.
    void value(const PyNode& node, int depth) {
        if (full() || depth > kMaxPickleDepth) return;
        switch (node.kind) {
            case PyKind::none:
                text_ += "None";
                break;
            case PyKind::boolean:
                text_ += node.number ? "True" : "False";
                break;
            case PyKind::integer:
                text_ += std::to_string(node.number);
                break;
            case PyKind::big_integer:
                text_ += decimal_text(node.text);
                break;
            case PyKind::real:
                text_ += real_text(node.real);
                break;
            case PyKind::text:
                quoted(node.text);
                break;
            case PyKind::bytes:
                text_ += fmt::format("<{} bytes>", node.text.size());
                break;
            case PyKind::list:
                elements(node, "[", "]", depth);
                break;
            case PyKind::tuple:
                elements(node, "(", ")", depth);
                break;
            case PyKind::set:
            case PyKind::dict:
                elements(node, "{", "}", depth);
                break;
            case PyKind::global:
                text_ += node.type;
                break;
            case PyKind::object:
                text_ += node.type;
                elements(*node.items[0], "(", ")", depth);
                break;
            case PyKind::persistent:
                text_ += "<storage>";
                break;
            case PyKind::tensor:
                text_ += "<tensor>";
                break;
        }
    }

    size_t limit_;
    std::string text_;
};

}  // namespace

const char* name_of(PyKind kind) {
    switch (kind) {
        case PyKind::none:
            return "NoneType";
        case PyKind::boolean:
            return "bool";
        case PyKind::integer:
        case PyKind::big_integer:
            return "int";
        case PyKind::real:
            return "float";
        case PyKind::text:
            return "str";
        case PyKind::bytes:
            return "bytes";
        case PyKind::list:
            return "list";
        case PyKind::tuple:
            return "tuple";
        case PyKind::set:
            return "set";
        case PyKind::dict:
            return "dict";
        case PyKind::global:
            return "name";
        case PyKind::object:
            return "object";
        case PyKind::persistent:
            return "storage";
        case PyKind::tensor:
            return "tensor";
    }
    return "?";
}

std::string_view PickleTree::keep(std::string text) {
    return *kept_.insert(std::move(text)).first;
}

void PickleTree::fail(const PyNode& at, const std::string& what) const {
    if (at.offset == 0) throw Error(fmt::format("{}: {}", source_, what));  // None, True, False
    throw Error(fmt::format("{}: byte {}: {}", source_, at.offset, what));
}

void PickleTree::check() {
    check_keys();
    check_nesting();
}

void PickleTree::check_keys() {
    size_t total = 0;
    for (PyNode& node : nodes_) {
        if (node.kind != PyKind::dict && node.kind != PyKind::set) continue;
        const size_t step = node.kind == PyKind::dict ? 2 : 1;
        std::unordered_map<std::string, size_t> places;
        std::vector<PyNode*> kept;
        for (size_t i = 0; i < node.items.size(); i += step) {
            std::string key = key_text(*node.items[i]);
            if (key.empty())
                fail(node, fmt::format("a {} cannot be a key of a {}, or is too long; the file is "
                                       "damaged or no checkpoint",
                                       name_of(node.items[i]->kind), name_of(node.kind)));
            total += key.size();
            if (total > kMaxKeys) fail(node, "its dicts have too many keys");
            const auto [found, is_new] = places.emplace(std::move(key), kept.size());
            if (is_new)
                kept.insert(kept.end(), node.items.begin() + static_cast<std::ptrdiff_t>(i),
                            node.items.begin() + static_cast<std::ptrdiff_t>(i + step));
            else if (step == 2)
                kept[found->second + 1] = node.items[i + 1];
        }
        node.items = std::move(kept);
    }
}

// Depth first over what the root reaches, without recursion. A value met again while its elements
// are being visited contains itself.
void PickleTree::check_nesting() const {
    for (const PyNode& node : nodes_) node.depth = 0;
    struct Step {
        const PyNode* node;
        size_t next = 0;
        int deepest = 0;
    };
    std::vector<Step> path{{root_}};
    root_->depth = kOpen;
    while (!path.empty()) {
        Step& step = path.back();
        if (step.next < step.node->items.size()) {
            const PyNode* item = step.node->items[step.next++];
            if (item->depth == kOpen)
                fail(*item, "a value that contains itself; the file is damaged");
            if (item->depth > 0) {
                step.deepest = std::max(step.deepest, item->depth);
            } else {
                item->depth = kOpen;
                path.push_back({item});
            }
            continue;
        }
        const int depth = step.deepest + 1;
        if (depth > kMaxPickleDepth)
            fail(*step.node,
                 fmt::format("values nested more than {} deep; the file is damaged or no "
                             "checkpoint",
                             kMaxPickleDepth));
        step.node->depth = depth;
        path.pop_back();
        if (!path.empty()) path.back().deepest = std::max(path.back().deepest, depth);
    }
}

void PyWalkBudget::visit(size_t cost) {
    left_ -= static_cast<int64_t>(cost);
    if (left_ > 0) return;
    throw Error(
        fmt::format("{}: its values, shared ones counted each time, are too many to walk; the file "
                    "is damaged or "
                    "made to hang its reader",
                    source_));
}

std::string_view PyValue::type() const {
    if (!node_) return "nothing";
    return node_->type.empty() ? std::string_view(name_of(node_->kind)) : node_->type;
}

void PyValue::want(const char* what) const {
    if (!node_) throw Error(fmt::format("[pickle] got nothing, want {}", what));
    tree_->fail(*node_, fmt::format("got {} {}, want {}; is it the right file?", type(),
                                    printable(repr(40)), what));
}

bool PyValue::as_bool() const {
    if (!is(PyKind::boolean)) want("a bool");
    return node_->number != 0;
}

int64_t PyValue::as_int() const {
    if (!is(PyKind::integer)) want("an int");
    return node_->number;
}

double PyValue::as_real() const {
    if (is(PyKind::integer)) return static_cast<double>(node_->number);
    if (!is(PyKind::real)) want("a float");
    return node_->real;
}

const std::string& PyValue::as_text() const {
    if (!is(PyKind::text)) want("a str");
    return node_->text;
}

const std::string& PyValue::as_bytes() const {
    if (!is(PyKind::bytes)) want("bytes");
    return node_->text;
}

std::string PyValue::integer_text() const {
    if (is(PyKind::big_integer)) return decimal_text(node_->text);
    return std::to_string(as_int());
}

const PyNode* PyValue::table() const {
    if (is(PyKind::dict)) return node_;
    if (is(PyKind::object) && node_->items.size() > 1 && node_->items[1]->kind == PyKind::dict)
        return node_->items[1];
    return nullptr;
}

size_t PyValue::size() const {
    if (const PyNode* dict = table()) return dict->items.size() / 2;
    const bool sequence = is(PyKind::list) || is(PyKind::tuple) || is(PyKind::set);
    return sequence ? node_->items.size() : 0;
}

PyValue PyValue::item(size_t i) const {
    if (i >= size()) want(fmt::format("one with an element {}", i).c_str());
    if (const PyNode* dict = table()) return with(dict->items[2 * i + 1]);
    return with(node_->items[i]);
}

PyValue PyValue::key(size_t i) const {
    const PyNode* dict = table();
    if (!dict || i >= size()) want("a dict with such a key");
    return with(dict->items[2 * i]);
}

PyValue PyValue::find(std::string_view name) const {
    const PyNode* dict = table();
    if (!dict) return {};
    for (size_t i = 0; i < dict->items.size(); i += 2)
        if (dict->items[i]->kind == PyKind::text && dict->items[i]->text == name)
            return with(dict->items[i + 1]);
    return {};
}

PyValue PyValue::at(std::string_view name) const {
    if (!table()) want(fmt::format("a dict with '{}'", printable(name)).c_str());
    if (PyValue found = find(name); found.defined()) return found;
    std::string names;
    for (size_t i = 0; i < std::min<size_t>(size(), 12); ++i)
        names += (i ? ", " : "") + printable(key(i).repr(40));
    tree_->fail(*node_, fmt::format("no '{}' among {}{}; is it the right file?", printable(name),
                                    names.empty() ? "no keys" : names, size() > 12 ? ", ..." : ""));
}

std::string PyValue::repr(size_t limit) const {
    return node_ ? ReprWriter(limit).write(*node_) : "nothing";
}

}  // namespace mc
