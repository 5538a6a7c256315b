// Python's pickles, read as data. A pickle is a program for a small stack machine; this one builds
// plain values and nothing else. A name that the program mentions ("GLOBAL") must be on a list of
// what checkpoints need (pickle_globals.cpp), and a "call" of one (REDUCE, NEWOBJ, BUILD) makes a
// container or an inert object that keeps its arguments: nothing is imported, called or executed.
// Format: Python's Lib/pickletools.py, protocols 0 to 5.
//
//     PickleTree tree(bytes, "latest.tar:data.pkl");
//     PyValue root = tree.root();
//     int64_t epoch = root.at("ep").as_int();
//     PyValue weights = root.find("vq_model");         // undefined if there is none
//     for (size_t i = 0; i < weights.size(); ++i) use(weights.key(i), weights.item(i));
//
// What is refused, each with one Error line of file, byte and reason: stack underflow, a missing
// mark, memo slots never written, lengths beyond the input (before anything is allocated), opcodes
// that no checkpoint has, unknown names, unhashable keys, values that contain themselves, nesting
// beyond kMaxPickleDepth, programs that copy values over and over. A small pickle can describe a
// tree of exponential size through shared values: walkers count their visits (PyWalkBudget).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace mc {

constexpr int kMaxPickleDepth = 1000;
constexpr int64_t kMaxPickleVisits = 10'000'000;

enum class PyKind : uint8_t {
    none,
    boolean,
    integer,      // fits int64_t
    big_integer,  // does not: text holds its bytes, little-endian two's complement
    real,
    text,   // UTF-8
    bytes,  // in text
    list,
    tuple,
    set,
    dict,
    global,      // a name: type is "module.name"
    object,      // made by a name: items are arguments and state
    persistent,  // a reference outside the pickle: items[0] is its id
    tensor,      // number is an index into the tensors of a PyTorch file (pytorch.h)
};
const char* name_of(PyKind kind);  // as Python spells it: "int", "dict", ...

struct PyNode {
    PyKind kind = PyKind::none;
    uint64_t offset = 0;    // of the opcode that made it, for errors
    int64_t number = 0;     // boolean, integer, tensor
    mutable int depth = 0;  // for PickleTree::check alone
    double real = 0;        // real
    std::string text;       // text, bytes, big_integer
    std::string_view
        type;  // "collections.OrderedDict", "numpy.float32", "torch.Size"; "" for plain
    // list, tuple, set: elements. dict: key, value, key, value, ... object: arguments, state (null
    // without one).
    std::vector<PyNode*> items;
};

class PyValue;

class PickleTree {
  public:
    struct Options {
        bool keep_unknown = false;  // unknown names become inert objects instead of an error
        bool whole = true;          // bytes after STOP are an error
        uint64_t first_byte = 0;    // where in the file the bytes begin, for errors
    };
    // `source` names the file, and the member if there is one, in errors.
    static std::shared_ptr<PickleTree> parse(std::span<const std::byte> bytes,
                                             const std::string& source, const Options& options);
    static std::shared_ptr<PickleTree> parse(std::span<const std::byte> bytes,
                                             const std::string& source) {
        return parse(bytes, source, Options{});
    }

    const std::string& source() const { return source_; }
    PyNode* root() { return root_; }
    const PyNode* root() const { return root_; }
    std::deque<PyNode>& nodes() { return nodes_; }  // in order of their making
    size_t used() const { return used_; }           // bytes read, up to and with STOP

    // A copy of the text that lives as long as the tree, for nodes' `type`; equal ones are one.
    std::string_view keep(std::string text);
    [[noreturn]] void fail(const PyNode& at, const std::string& what) const;
    // Again after nodes were rewritten: keys are hashable and stand once (the last value wins), no
    // value contains itself, nesting is bounded.
    void check();

  private:
    friend class PickleMachine;
    explicit PickleTree(std::string source) : source_(std::move(source)) {}
    void check_keys();
    void check_nesting() const;

    std::string source_;
    std::deque<PyNode> nodes_;
    std::unordered_set<std::string> kept_;
    PyNode* root_ = nullptr;
    size_t used_ = 0;
};

// A value of a tree, which it keeps alive. Cheap to copy. The accessors throw Error if the value is
// of another kind.
class PyValue {
  public:
    PyValue() = default;  // undefined
    PyValue(std::shared_ptr<const PickleTree> tree, const PyNode* node)
        : tree_(std::move(tree)), node_(node) {}

    bool defined() const { return node_ != nullptr; }
    PyKind kind() const { return node_->kind; }
    bool is(PyKind kind) const { return node_ && node_->kind == kind; }
    // The class: "dict", "collections.OrderedDict", "numpy.float64", "__torch__.clip.model.CLIP".
    std::string_view type() const;
    const PyNode& node() const { return *node_; }

    bool as_bool() const;
    int64_t as_int() const;
    double as_real() const;  // of an integer too
    const std::string& as_text() const;
    const std::string& as_bytes() const;
    std::string integer_text() const;  // decimal, of integers of any size

    // Elements of a list, tuple, set or dict, attributes of an object; 0 for all else.
    size_t size() const;
    PyValue item(size_t i) const;  // the element; of a dict or an object the value
    PyValue key(size_t i) const;   // dict and object alone
    // By name, of a dict or an object's attributes: undefined if there is none.
    PyValue find(std::string_view name) const;
    // The same, but Error: it lists what there is.
    PyValue at(std::string_view name) const;

    // One line, as Python prints it, cut after about `limit` characters.
    std::string repr(size_t limit = 80) const;

  private:
    PyValue with(const PyNode* node) const { return {tree_, node}; }
    const PyNode* table() const;  // the dict that key() and find() look into, or null
    [[noreturn]] void want(const char* what) const;

    std::shared_ptr<const PickleTree> tree_;
    const PyNode* node_ = nullptr;
};

// A walk over a value tree counts its steps here and gives up, in one line, when they are too many.
class PyWalkBudget {
  public:
    explicit PyWalkBudget(std::string source, int64_t visits = kMaxPickleVisits)
        : source_(std::move(source)), left_(visits) {}
    void visit(size_t cost = 1);

  private:
    std::string source_;
    int64_t left_;
};

}  // namespace mc
