// Linked instead of dnn.cu where the build found no <cudnn.h> of cuDNN 9.
#include "kernels/cuda/dnn.h"

namespace mc::cuda {

bool dnn_available() {
    return false;
}

bool dnn_asked_for() {
    return false;
}

std::string dnn_report() {
    return "no cuDNN: built without cudnn.h";
}

template <class T>
bool dnn_conv1d(Context&, T*, const T*, const T*, const ConvShape&) {
    return false;
}
template <class T>
bool dnn_conv1d_data(Context&, T*, const T*, const T*, const ConvShape&) {
    return false;
}
template <class T>
bool dnn_conv1d_weight(Context&, T*, const T*, const T*, const ConvShape&) {
    return false;
}
template bool dnn_conv1d(Context&, float*, const float*, const float*, const ConvShape&);
template bool dnn_conv1d(Context&, double*, const double*, const double*, const ConvShape&);
template bool dnn_conv1d_data(Context&, float*, const float*, const float*, const ConvShape&);
template bool dnn_conv1d_data(Context&, double*, const double*, const double*, const ConvShape&);
template bool dnn_conv1d_weight(Context&, float*, const float*, const float*, const ConvShape&);
template bool dnn_conv1d_weight(Context&, double*, const double*, const double*, const ConvShape&);

}  // namespace mc::cuda
