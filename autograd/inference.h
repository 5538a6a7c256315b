// How a model computes when nothing is learned.
//
//     Inference scope(Precision::bf16);
//     Var y = linear(x, w, b);       // no tape; w is packed once, by the first product with it
//
// While an Inference lives, this thread records nothing, and `linear` and `conv1d` in f32 read a
// copy of their weight that is packed once, if it is used again, and kept with the weight
// (tensor/packed_weight.h): at the few rows of a generation, packing it every time costs a third of
// the CPU's product. In f32 the results have the same bits as without (a GPU's product reads the
// weight itself). In bf16 both operands of `linear` are rounded to bf16 and summed in f32 (8 bits
// of mantissa: a relative error of 2^-9 an operand); so in f16, on a GPU alone (2^-12, and beyond
// 65504 infinite). In int16, on the CPU alone, they are blocks of integers with a scale: about
// fifteen times as exact as bf16. What each is: NOTE [ Packed right operands ] in kernels/matmul.h.
// All else stays f32.
#pragma once

#include "autograd/tape.h"
#include "kernels/conv.h"

namespace mc {

class Inference {
  public:
    explicit Inference(Precision products = Precision::f32);
    ~Inference();
    Inference(const Inference&) = delete;
    Inference& operator=(const Inference&) = delete;

    // While one lives, products are in f32 whatever the Inference around asks for: where rounding
    // costs more than it saves. Nothing outside an Inference.
    class InFull {
      public:
        InFull();
        ~InFull();
        InFull(const InFull&) = delete;
        InFull& operator=(const InFull&) = delete;

      private:
        bool previous_;
    };

    // What `linear` hands to its product for w (N, K): nothing where no Inference lives, w is not
    // f32, or is as good as it is.
    static PackedMatrix packed(const Tensor& w);
    // What `conv1d` hands to its kernel for w (Cout, Cin, K), in f32 always; null likewise.
    static const void* packed(const Tensor& w, const ConvShape& shape);
    // What products are asked for in: f32 where no Inference lives.
    static Precision products();

  private:
    Tape::Pause no_tape_;
    Precision products_;
    const Inference* previous_;
};

}  // namespace mc
