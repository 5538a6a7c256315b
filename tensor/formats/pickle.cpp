#include "tensor/formats/pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "kernels/error.h"
#include "tensor/formats/pickle_globals.h"
#include "tensor/formats/utf8.h"

namespace mc {
namespace {

constexpr size_t kMaxPickle = size_t{1} << 28;  // bytes; tables of weights have kilobytes
constexpr size_t kMaxNodes = 5'000'000;         // values; about half a gigabyte of them
constexpr size_t kMaxLong = 1024;               // bytes of one integer
constexpr size_t kMaxName = 1000;               // bytes of a module and a name in it

}  // namespace

// NOTE [ Cost of a pickle ] Every opcode makes at most one value or moves what is on the stack, so
// time and memory are linear in the input. The exceptions copy: list(x), dict(x), encode(text).
// What they copy is counted in `copied_` and bounded by the input's length, which honest files keep
// since they copy a value at most once.
class PickleMachine {
  public:
    PickleMachine(PickleTree& tree, std::span<const std::byte> bytes,
                  const PickleTree::Options& options)
        : tree_(tree), bytes_(bytes), options_(options) {
        none_ = make(PyKind::none);
        for (int64_t value : {0, 1}) {
            booleans_[value] = make(PyKind::boolean);
            booleans_[value]->number = value;
        }
    }

    void run() {
        if (!options_.whole) bytes_ = bytes_.first(std::min(bytes_.size(), kMaxPickle));
        if (bytes_.size() > kMaxPickle)
            fail(fmt::format("a pickle of {} bytes, at most {} are read", bytes_.size(),
                             kMaxPickle));
        while (true) {
            start_ = at_;
            const uint8_t code = byte();
            if (code == '.') break;
            if (!scalar(code) && !container(code) && !name(code) && !memo(code))
                fail(fmt::format("opcode 0x{:02x}, which no checkpoint has", code));
        }
        tree_.root_ = pop();
        tree_.used_ = at_;
        if (options_.whole && at_ != bytes_.size())
            fail(fmt::format("{} bytes after the end of the pickle", bytes_.size() - at_));
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error(fmt::format("{}: byte {}: {}; the file is damaged or no checkpoint",
                                tree_.source_, place(), what));
    }
    [[noreturn]] void fail_untrusted(const std::string& what) const {
        throw Error(fmt::format("{}: byte {}: {}", tree_.source_, place(), what));
    }

    uint64_t place() const { return options_.first_byte + start_; }

    // Input.
    size_t left() const { return bytes_.size() - at_; }
    uint8_t byte() { return std::to_integer<uint8_t>(take(1)[0]); }
    const std::byte* take(uint64_t size) {
        if (size > left()) fail(fmt::format("wants {} bytes, {} are left", size, left()));
        const std::byte* from = bytes_.data() + at_;
        at_ += size;
        return from;
    }
    template <class T>
    T little() {
        static_assert(std::endian::native == std::endian::little);
        T value;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }
    std::string_view chars(uint64_t size) {
        const std::byte* from = take(size);
        return {reinterpret_cast<const char*>(from), size};
    }
    std::string_view line() {
        const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_, left());
        const size_t end = rest.find('\n');
        if (end == rest.npos) fail("a line that does not end");
        at_ += end + 1;
        return rest.substr(0, end);
    }

    // Values and the stack. Nothing below the last mark can be reached.
    PyNode* make(PyKind kind) {
        if (tree_.nodes_.size() >= kMaxNodes) fail(fmt::format("more than {} values", kMaxNodes));
        PyNode& node = tree_.nodes_.emplace_back();
        node.kind = kind;
        node.offset = place();
        return &node;
    }
    void push(PyNode* node) { stack_.push_back(node); }
    void push_integer(int64_t value) {
        push(make(PyKind::integer));
        stack_.back()->number = value;
    }
    void push_real(double value) {
        push(make(PyKind::real));
        stack_.back()->real = value;
    }
    void push_string(PyKind kind, std::string_view text) {
        push(make(kind));
        stack_.back()->text = text;
    }
    void push_text(std::string_view text) {
        if (!is_utf8(text)) fail("a text that is not UTF-8");
        push_string(PyKind::text, text);
    }
    void push_tuple(size_t size) {
        need(size);
        PyNode* tuple = make(PyKind::tuple);
        tuple->items.assign(stack_.end() - static_cast<std::ptrdiff_t>(size), stack_.end());
        stack_.resize(stack_.size() - size);
        push(tuple);
    }
    size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
    void need(size_t count) const {
        if (stack_.size() - floor() < count) fail("takes more values than there are on the stack");
    }
    PyNode* pop() {
        need(1);
        PyNode* node = stack_.back();
        stack_.pop_back();
        return node;
    }
    PyNode* top() {
        need(1);
        return stack_.back();
    }
    std::vector<PyNode*> pop_mark() {
        if (marks_.empty()) fail("there is no mark to take values from");
        const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
        std::vector<PyNode*> values(from, stack_.end());
        stack_.resize(marks_.back());
        marks_.pop_back();
        return values;
    }
    void count_copy(size_t size) {
        copied_ += size;
        if (copied_ > bytes_.size()) fail("copies values over and over");
    }

    bool scalar(uint8_t code);
    bool container(uint8_t code);
    bool name(uint8_t code);
    bool memo(uint8_t code);

    void decimal_line(bool boolean_too);
    void long_integer(int64_t size);
    void append_pairs(PyNode* to, const std::vector<PyNode*>& pairs);
    void append_list(PyNode* to, const std::vector<PyNode*>& values);
    void push_global(std::string_view module, std::string_view name);
    void push_persistent(PyNode* id);
    PyNode* call(PyNode* callee, PyNode* arguments);
    PyNode* call_dict(const PyNode& callee, const std::vector<PyNode*>& arguments);
    PyNode* call_encode(const std::vector<PyNode*>& arguments);
    void build(PyNode* target, PyNode* state);
    void remember(uint64_t index) { memo_[index] = top(); }
    void recall(uint64_t index) {
        const auto found = memo_.find(index);
        if (found == memo_.end()) fail(fmt::format("memo slot {} was never written", index));
        push(found->second);
    }
    uint64_t index_line() {
        const std::string_view text = line();
        uint64_t value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error != std::errc() || end != text.data() + text.size()) fail("a bad memo slot");
        return value;
    }

    PickleTree& tree_;
    std::span<const std::byte> bytes_;
    const PickleTree::Options& options_;
    size_t at_ = 0, start_ = 0;  // next byte; the current opcode
    std::vector<PyNode*> stack_;
    std::vector<size_t> marks_;  // sizes of the stack
    std::unordered_map<uint64_t, PyNode*> memo_;
    std::unordered_map<const PyNode*, PyCall> calls_;  // what globals make
    size_t copied_ = 0;
    PyNode* none_;
    PyNode* booleans_[2];
};

void PickleMachine::decimal_line(bool boolean_too) {
    std::string_view text = line();
    if (boolean_too && (text == "00" || text == "01")) return push(booleans_[text[1] - '0']);
    if (!boolean_too && text.ends_with('L')) text.remove_suffix(1);
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        fail("a decimal integer that is none, or is beyond 64 bits");
    push_integer(value);
}

// Two's complement, little-endian, as short as it can be or not.
void PickleMachine::long_integer(int64_t size) {
    if (size < 0 || static_cast<uint64_t>(size) > kMaxLong)
        fail(fmt::format("an integer of {} bytes, at most {} are read", size, kMaxLong));
    std::string_view raw = chars(static_cast<uint64_t>(size));
    const bool negative = !raw.empty() && (raw.back() & 0x80) != 0;
    const char fill = negative ? '\xff' : '\0';
    while (raw.size() > 1 && raw.back() == fill && ((raw[raw.size() - 2] & 0x80) != 0) == negative)
        raw.remove_suffix(1);
    if (raw.size() > 8) return push_string(PyKind::big_integer, raw);
    int64_t value = negative ? -1 : 0;
    if (!raw.empty()) std::memcpy(&value, raw.data(), raw.size());
    push_integer(value);
}

bool PickleMachine::scalar(uint8_t code) {
    switch (code) {
        case 0x80: {  // PROTO
            const int version = byte();
            if (version > 5) fail(fmt::format("pickle protocol {}, at most 5 is read", version));
            return true;
        }
        case 0x95:  // FRAME: a hint for readers of streams
            if (little<uint64_t>() > left()) fail("a frame that is longer than the file");
            return true;
        case 'N':
            push(none_);
            return true;
        case 0x88:
        case 0x89:
            push(booleans_[code == 0x88]);
            return true;
        case 'J':
            push_integer(little<int32_t>());
            return true;
        case 'K':
            push_integer(byte());
            return true;
        case 'M':
            push_integer(little<uint16_t>());
            return true;
        case 0x8a:
            long_integer(byte());
            return true;
        case 0x8b:
            long_integer(little<int32_t>());
            return true;
        case 'I':
        case 'L':
            decimal_line(code == 'I');
            return true;
        case 'F': {
            const std::string_view text = line();
            double value = 0;
            const auto [end, error] =
                std::from_chars(text.data(), text.data() + text.size(), value);
            if (error != std::errc() || end != text.data() + text.size()) fail("a bad number");
            push_real(value);
            return true;
        }
        case 'G':
            push_real(std::bit_cast<double>(__builtin_bswap64(little<uint64_t>())));
            return true;
        case 'X':
            push_text(chars(little<uint32_t>()));
            return true;
        case 0x8c:
            push_text(chars(byte()));
            return true;
        case 0x8d:
            push_text(chars(little<uint64_t>()));
            return true;
        case 'V': {
            const std::string_view text = line();
            if (text.find('\\') != text.npos) fail("a text with escapes");
            push_text(text);
            return true;
        }
        case 'T':
        case 'U': {  // Python 2's strings, bytes or text: read as Latin-1
            const int64_t size = code == 'T' ? int64_t{little<int32_t>()} : int64_t{byte()};
            if (size < 0) fail("a negative length");
            push_string(PyKind::text, utf8_of_latin1(chars(static_cast<uint64_t>(size))));
            return true;
        }
        case 'S': {
            const std::string_view text = line();
            if (text.size() < 2 || (text[0] != '\'' && text[0] != '"') || text.back() != text[0] ||
                text.find('\\') != text.npos)
                fail("a string without quotes, or with escapes");
            push_string(PyKind::text, utf8_of_latin1(text.substr(1, text.size() - 2)));
            return true;
        }
        case 'B':
            push_string(PyKind::bytes, chars(little<uint32_t>()));
            return true;
        case 'C':
            push_string(PyKind::bytes, chars(byte()));
            return true;
        case 0x8e:  // BINBYTES8
        case 0x96:  // BYTEARRAY8
            push_string(PyKind::bytes, chars(little<uint64_t>()));
            return true;
        default:
            return false;
    }
}

void PickleMachine::append_pairs(PyNode* to, const std::vector<PyNode*>& pairs) {
    if (pairs.size() % 2 != 0) fail("a key without a value");
    if (to->kind == PyKind::object) {  // of a class that is a dict: its items are its attributes
        if (to->items.size() < 2) to->items.push_back(make(PyKind::dict));
        to = to->items[1];
    }
    if (to->kind != PyKind::dict) fail(fmt::format("sets items of a {}", name_of(to->kind)));
    to->items.insert(to->items.end(), pairs.begin(), pairs.end());
}

void PickleMachine::append_list(PyNode* to, const std::vector<PyNode*>& values) {
    if (to->kind != PyKind::list) fail(fmt::format("appends to a {}", name_of(to->kind)));
    to->items.insert(to->items.end(), values.begin(), values.end());
}

bool PickleMachine::container(uint8_t code) {
    switch (code) {
        case '(':
            marks_.push_back(stack_.size());
            return true;
        case '0':  // POP
            if (!marks_.empty() && stack_.size() == marks_.back())
                marks_.pop_back();
            else
                pop();
            return true;
        case '1':
            pop_mark();
            return true;
        case '2':
            push(top());
            return true;
        case ')':
            push_tuple(0);
            return true;
        case 0x85:
        case 0x86:
        case 0x87:
            push_tuple(static_cast<size_t>(code - 0x84));
            return true;
        case ']':
            push(make(PyKind::list));
            return true;
        case '}':
            push(make(PyKind::dict));
            return true;
        case 0x8f:
            push(make(PyKind::set));
            return true;
        case 't':
        case 'l':
        case 0x91: {
            std::vector<PyNode*> values = pop_mark();
            PyNode* node = make(code == 't'   ? PyKind::tuple
                                : code == 'l' ? PyKind::list
                                              : PyKind::set);
            node->items = std::move(values);
            push(node);
            return true;
        }
        case 'd': {
            const std::vector<PyNode*> pairs = pop_mark();
            PyNode* node = make(PyKind::dict);
            append_pairs(node, pairs);
            push(node);
            return true;
        }
        case 'a': {
            PyNode* value = pop();
            append_list(top(), {value});
            return true;
        }
        case 'e': {
            const std::vector<PyNode*> values = pop_mark();
            append_list(top(), values);
            return true;
        }
        case 's': {
            PyNode* value = pop();
            PyNode* key = pop();
            append_pairs(top(), {key, value});
            return true;
        }
        case 'u': {
            const std::vector<PyNode*> pairs = pop_mark();
            append_pairs(top(), pairs);
            return true;
        }
        case 0x90: {
            const std::vector<PyNode*> values = pop_mark();
            PyNode* set = top();
            if (set->kind != PyKind::set) fail(fmt::format("adds to a {}", name_of(set->kind)));
            set->items.insert(set->items.end(), values.begin(), values.end());
            return true;
        }
        default:
            return false;
    }
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
    const auto call = pickle_global(module, name);
    if (!call && !options_.keep_unknown)
        fail_untrusted(fmt::format("names {}.{}, {}", printable(module), printable(name),
                                   pickle_global_refusal(module, name)));
    if (!is_utf8(module) || !is_utf8(name)) fail("a name that is not UTF-8");
    if (module.size() + name.size() > kMaxName) fail("a name of too many characters");
    PyNode* node = make(PyKind::global);
    node->type = tree_.keep(fmt::format("{}.{}", module, name));
    calls_[node] = call.value_or(PyCall::inert);
    push(node);
}

// ("module", class, source file, source): old whole-model files; the class is what counts.
void PickleMachine::push_persistent(PyNode* id) {
    if (id->kind == PyKind::tuple && id->items.size() >= 2 && id->items[0]->kind == PyKind::text &&
        id->items[0]->text == "module")
        return push(id->items[1]);
    PyNode* node = make(PyKind::persistent);
    node->items.push_back(id);
    push(node);
}

PyNode* PickleMachine::call_dict(const PyNode& callee, const std::vector<PyNode*>& arguments) {
    PyNode* dict = make(PyKind::dict);
    if (!callee.type.ends_with(".dict")) dict->type = callee.type;
    const size_t first = callee.type == "collections.defaultdict" ? 1 : 0;  // after the factory
    if (arguments.size() <= first) return dict;
    const PyNode& from = *arguments[first];
    count_copy(from.items.size());
    if (from.kind == PyKind::dict) {
        dict->items = from.items;
    } else if (from.kind == PyKind::list || from.kind == PyKind::tuple) {
        for (const PyNode* pair : from.items) {
            if ((pair->kind != PyKind::list && pair->kind != PyKind::tuple) ||
                pair->items.size() != 2)
                fail("makes a dict of what are not pairs");
            dict->items.insert(dict->items.end(), pair->items.begin(), pair->items.end());
        }
    } else {
        fail(fmt::format("makes a dict of a {}", name_of(from.kind)));
    }
    return dict;
}

PyNode* PickleMachine::call_encode(const std::vector<PyNode*>& arguments) {
    if (arguments.empty() || arguments[0]->kind != PyKind::text) fail("encodes what is no text");
    const std::string& text = arguments[0]->text;
    count_copy(text.size());
    PyNode* bytes = make(PyKind::bytes);
    const auto latin1 = latin1_of_utf8(text);
    if (!latin1) fail("bytes with characters beyond Latin-1");
    bytes->text = *latin1;
    return bytes;
}

PyNode* PickleMachine::call(PyNode* callee, PyNode* arguments) {
    if (callee->kind != PyKind::global) fail(fmt::format("calls a {}", name_of(callee->kind)));
    if (arguments->kind != PyKind::tuple) fail("arguments that are no tuple");
    const auto& values = arguments->items;
    const PyCall what = calls_.at(callee);
    switch (what) {
        case PyCall::dict:
            return call_dict(*callee, values);
        case PyCall::encode:
            return call_encode(values);
        case PyCall::first_argument:
            if (values.empty()) fail(fmt::format("{} without an argument", callee->type));
            return values[0];
        case PyCall::list:
        case PyCall::tuple:
        case PyCall::set: {
            PyNode* node = make(what == PyCall::list    ? PyKind::list
                                : what == PyCall::tuple ? PyKind::tuple
                                                        : PyKind::set);
            if (values.empty()) return node;
            const PyNode& from = *values[0];
            if (from.kind != PyKind::list && from.kind != PyKind::tuple && from.kind != PyKind::set)
                fail(fmt::format("makes a {} of a {}", name_of(node->kind), name_of(from.kind)));
            count_copy(from.items.size());
            node->items = from.items;
            return node;
        }
        case PyCall::inert:
            break;
    }
    PyNode* object = make(PyKind::object);
    object->type = callee->type;
    object->items.push_back(arguments);
    return object;
}

void PickleMachine::build(PyNode* target, PyNode* state) {
    if (target->kind == PyKind::object) {
        target->items.resize(1);
        target->items.push_back(state);
    } else if (target->kind == PyKind::dict && target->type == "argparse.Namespace") {
        if (state->kind != PyKind::dict) fail("a Namespace without a dict");
        count_copy(state->items.size());
        append_pairs(target, std::vector<PyNode*>(state->items));
    } else if (target->kind != PyKind::dict) {  // a dict's attributes: a state dict's versions
        fail(fmt::format("sets attributes of a {}", name_of(target->kind)));
    }
}

bool PickleMachine::name(uint8_t code) {
    switch (code) {
        case 'c': {
            const std::string_view module = line();
            push_global(module, line());
            return true;
        }
        case 0x93: {
            const PyNode* name = pop();
            const PyNode* module = pop();
            if (name->kind != PyKind::text || module->kind != PyKind::text)
                fail("a name that is no text");
            push_global(module->text, name->text);
            return true;
        }
        case 'R':
        case 0x81: {  // REDUCE, NEWOBJ
            PyNode* arguments = pop();
            PyNode* callee = pop();
            push(call(callee, arguments));
            return true;
        }
        case 0x92: {  // NEWOBJ_EX
            const PyNode* keywords = pop();
            PyNode* arguments = pop();
            PyNode* callee = pop();
            if (keywords->kind != PyKind::dict || !keywords->items.empty())
                fail("a call with keywords");
            push(call(callee, arguments));
            return true;
        }
        case 'b': {
            PyNode* state = pop();
            build(top(), state);
            return true;
        }
        case 'Q':
            push_persistent(pop());
            return true;
        case 'P': {
            PyNode* id = make(PyKind::text);
            id->text = utf8_of_latin1(line());
            push_persistent(id);
            return true;
        }
        default:
            return false;
    }
}

bool PickleMachine::memo(uint8_t code) {
    switch (code) {
        case 'q':
            remember(byte());
            return true;
        case 'r':
            remember(little<uint32_t>());
            return true;
        case 'p':
            remember(index_line());
            return true;
        case 0x94:
            remember(memo_.size());
            return true;
        case 'h':
            recall(byte());
            return true;
        case 'j':
            recall(little<uint32_t>());
            return true;
        case 'g':
            recall(index_line());
            return true;
        default:
            return false;
    }
}

std::shared_ptr<PickleTree> PickleTree::parse(std::span<const std::byte> bytes,
                                              const std::string& source, const Options& options) {
    std::shared_ptr<PickleTree> tree(new PickleTree(source));
    PickleMachine(*tree, bytes, options).run();
    tree->check();
    return tree;
}

}  // namespace mc
